"""This runner opens ONNX files in OpenVINO, in float32 where the file says float32; OpenVINO's telemetry stays off.

OpenVINO reads plain initializers: a file with sparse initializers or decoders is opened in its dense form, which has
the same codes (export/materialize.py). DYNAMIC_QUANTIZATION_GROUP_SIZE=0 keeps linear layers from quantizing their
inputs, which is its default and 0.2 % off. The package's telemetry is replaced by the stub that OpenVINO itself has
for it, in this process only.
"""

import sys
import tempfile
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from codeq.errors import first_line
from codeq.toolkit.extras import install_hint
from export.errors import ExportError
from export.input_slot import InputSlot
from export.materialize import materialize
from export.metadata import KEY
from export.onnx.probe import with_codes
from export.onnx.sessions import load_model

PACKAGE = "openvino"
TELEMETRY = "openvino_telemetry"
NUMPY_TYPES = {"f32": np.float32, "i64": np.int64, "i32": np.int32}
BARE = "/WithoutBiases"
LAYERS, TYPE = "originalLayersNames", "layerType"
"""A primitive of the compiled model has these entries: the file's nodes that it computes, in one text; and its kind."""


def openvino() -> Any:
    """Import the package.

    Raises:
        ExportError: It is not installed.
    """
    sys.modules.setdefault(TELEMETRY, None)  # type: ignore[arg-type]
    try:
        return import_module(PACKAGE)
    except ImportError as error:
        raise ExportError(
            f"OpenVINO is not installed ({error}): {install_hint('openvino')}, or leave it out of --runtimes"
        ) from error


class OpenVinoRunner:
    """See `Runner`."""

    runtime = "OpenVINO"
    inputs: tuple[InputSlot, ...] = ()

    def __init__(self, path: Path, threads: int | None = None, look_at: Sequence[str] = ()) -> None:
        openvino()
        self.version = version(PACKAGE)
        self.path, self.threads = path, threads or 1
        model, self.note = _dense(path)
        self.content: Path | bytes = model.SerializeToString()
        if look_at:
            self.content = with_codes(model, [f"{name}_quantized" for name in look_at], path)

    def open(self) -> None:
        settings = {
            "INFERENCE_NUM_THREADS": self.threads,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": "f32",
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
        }
        core = openvino().Core()
        try:
            self.compiled = core.compile_model(core.read_model(self.content), "CPU", settings)
        except RuntimeError as error:
            raise ExportError(f"{self.path}: OpenVINO {self.version} cannot open it ({_reason(error)})") from error
        self.request = self.compiled.create_infer_request()
        self.inputs = tuple(self._slot(item, self.path) for item in self.compiled.inputs)

    def prepare(self, arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        return {slot.name: array for slot, array in zip(self.inputs, arrays, strict=True)}

    def run(self, prepared: dict[str, np.ndarray]) -> list[np.ndarray]:
        found = self.request.infer(prepared, share_inputs=True)
        return [found[item] for item in self.compiled.outputs]

    def finish(self, outputs: list[np.ndarray]) -> list[np.ndarray]:
        return outputs

    def primitives(self) -> list[tuple[str, set[str]]]:
        """Say what OpenVINO made of the file: the type of each primitive and the file's nodes that it computes."""
        found = []
        for operator in self.compiled.get_runtime_model().get_ordered_ops():
            about = operator.get_rt_info()
            if LAYERS in about and TYPE in about:
                nodes = str(about[LAYERS].value).split(",")
                # A convolution goes by the name of its part without the bias where that is a node of its own.
                found.append((str(about[TYPE].value), {*nodes, *(node.removesuffix(BARE) for node in nodes)}))
        return found

    def _slot(self, item: Any, path: Path) -> InputSlot:
        kind = item.get_element_type().get_type_name()
        if kind not in NUMPY_TYPES:
            raise ExportError(f"{path}: input {item.get_any_name()!r} is {kind}, expected {', '.join(NUMPY_TYPES)}")
        shape = tuple(None if size.is_dynamic else size.get_length() for size in item.get_partial_shape())
        return InputSlot(item.get_any_name(), shape, np.dtype(NUMPY_TYPES[kind]))


def _dense(path: Path) -> tuple[onnx.ModelProto, str]:
    model = load_model(path)
    ours = any(entry.key == KEY for entry in model.metadata_props)
    if ours and (model.graph.sparse_initializer or model.functions):
        with tempfile.TemporaryDirectory() as folder:
            dense = Path(folder) / path.name
            materialize(path, dense)
            return onnx.load(dense), "opened dense (export.materialize), as OpenVINO reads no encoded weights"
    return onnx.load(path), ""


def _reason(error: Exception) -> str:
    """The first line that says something: those before it say where in OpenVINO's source."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = [
        line for line in lines if line and not line.startswith(("Exception from", "Check '", "Loading", "FrontEnd"))
    ]
    return told[0] if told else first_line(error)
