"""This module defines what an ONNX file can be asked to be, and which wishes contradict each other, without ONNX."""

from dataclasses import dataclass
from typing import Literal

from codeq.toolkit.options import option
from export.errors import ExportError
from export.onnx.storage.kinds import STORAGES, Storage
from export.onnx.storage.target import TARGETS
from export.options import ExportRequest

State = Literal["refuse", "io"]
STATES: tuple[State, ...] = ("refuse", "io")
DEFAULT_TARGET = "onnxruntime"
EXTERNAL_DATA_THRESHOLD = 1_800_000_000
"""Bytes of initializers above which they go into a file beside the model: a protobuf message ends at 2^31 - 1."""


@dataclass(frozen=True, kw_only=True)
class OnnxRequest(ExportRequest):
    """Says what `export_onnx` can be asked for.

    Attributes:
        storage: "auto" stores each weight as `sparse_initializer` exactly where that is smaller, "dense" never,
            "sparse" always. "packed" takes the smallest of all encodings that load quickly, "smallest" of all
            encodings; onnxruntime decodes them to the same codes when it creates a session.
        target: What has to open the file, a name of `export.onnx.storage.target.TARGETS`.
        debug_info: Keep the exporter's documentation strings and source locations in the file.
        opset: None takes the lowest that the graph needs.
        state: "io": a buffer that forward writes and that an output of the next call reads is an input and an output of
            the file; its batch is that of the example inputs. "refuse": it is an error. For float32 activations.
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
    state: State = option(
        "refuse",
        "io: what forward keeps in buffers for the next call (a cache, a hidden state) is an input and an output of "
        "the file, at a fixed batch size; its first value is in the metadata. With --activations float",
        choices=STATES,
    )
    dynamic_batch: bool = True
    external_data_threshold: int = EXTERNAL_DATA_THRESHOLD

    @property
    def open_batch(self) -> bool:
        return self.dynamic_batch and not self.keep_state

    @property
    def keep_state(self) -> bool:
        return self.state == "io"

    def check(self) -> None:
        super().check()
        runtime = TARGETS[self.target]
        if self.storage == "sparse" and not runtime.sparse_initializers:
            raise ExportError(f"--target {self.target} takes no sparse_initializer; choose another --storage")
        if self.keep_state and self.quantization.activations == "int8":
            raise ExportError(
                "--state io: found --activations int8, whose grids and integer reference know no state; use "
                "--activations float32, or make the buffer an argument and a result of forward"
            )
        if self.opset is not None and runtime.max_opset is not None and self.opset > runtime.max_opset:
            raise ExportError(
                f"--target {self.target} opens files up to opset {runtime.max_opset}, found --opset {self.opset}"
            )
