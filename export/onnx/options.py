"""What an ONNX file can be asked to be, and which wishes contradict each other. Imports no ONNX."""

from dataclasses import dataclass

from codeq.toolkit.options import option
from export.errors import ExportError
from export.onnx.storage.kinds import STORAGES, Storage
from export.onnx.storage.target import TARGETS
from export.options import ExportRequest

DEFAULT_TARGET = "onnxruntime"
EXTERNAL_DATA_THRESHOLD = 1_800_000_000
"""Bytes of initializers above which they go into a file beside the model: a protobuf message ends at 2^31 - 1."""


@dataclass(frozen=True, kw_only=True)
class OnnxRequest(ExportRequest):
    """What `export_onnx` can be asked for.

    Attributes:
        storage: "auto" stores each weight as `sparse_initializer` exactly where that is smaller, "dense" never,
            "sparse" always. "packed" takes the smallest of all encodings that load quickly, "smallest" of all
            encodings; onnxruntime decodes them to the same codes when it creates a session.
        target: What has to open the file, a name of `export.onnx.storage.target.TARGETS`.
        debug_info: Keep the exporter's documentation strings and source locations in the file.
        opset: None takes the lowest that the graph needs.
        dynamic_batch: Leave the batch size open.
        external_data_threshold: Bytes of plain initializers above which they are stored beside the model; encoded
            weights stay in it.
    """

    storage: Storage = option(
        "auto",
        "dense: int8; sparse: sparse_initializer; auto: the smaller of these; packed: near the Shannon bound, decoded "
        "by onnxruntime as it creates a session; smallest: a few percent less, slower to load",
        choices=STORAGES,
    )
    target: str = option(
        DEFAULT_TARGET,
        "; ".join(f"{target.name}: {target.description}" for target in TARGETS.values()),
        choices=tuple(TARGETS),
    )
    debug_info: bool = option(False, "keep the exporter's documentation strings and source locations")
    opset: int | None = option(None, "opset to write (default: the lowest the network needs)", low=1)
    dynamic_batch: bool = True
    external_data_threshold: int = EXTERNAL_DATA_THRESHOLD

    @property
    def open_batch(self) -> bool:
        return self.dynamic_batch

    def check(self) -> None:
        super().check()
        runtime = TARGETS[self.target]
        if self.storage == "sparse" and not runtime.sparse_initializers:
            raise ExportError(f"--target {self.target} takes no sparse_initializer; choose another --storage")
        if self.opset is not None and runtime.max_opset is not None and self.opset > runtime.max_opset:
            raise ExportError(
                f"--target {self.target} opens files up to opset {runtime.max_opset}, found --opset {self.opset}"
            )
