"""ONNX files in onnxruntime, with the session options that a file of ours carries."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort

from export.errors import ExportError
from export.metadata import KEY, read_metadata
from export.onnx.sessions import EXTERNAL_FOLDER, load_model, open_session, session_options
from export.onnx.verify_integer import with_codes
from runtime_tests.runners.runner import InputSlot

NUMPY_TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32}


class OnnxruntimeRunner:
    """See `Runner`."""

    runtime = "onnxruntime"
    version = str(ort.__version__)
    note = ""
    inputs: tuple[InputSlot, ...] = ()

    def __init__(self, path: Path, threads: int | None = None, look_at: Sequence[str] = ()) -> None:
        model = load_model(path)
        entries: dict[str, str] = {}
        if look_at or any(entry.key == KEY for entry in model.metadata_props):
            entries = read_metadata(model, path).session_options
        self.path = path
        self.content: Path | bytes = path
        if look_at:
            entries = entries | {EXTERNAL_FOLDER: str(path.parent)}
            self.content = with_codes(model, [f"{name}_quantized" for name in look_at], path)
        self.options = session_options("enable_all", threads, entries)

    def open(self) -> None:
        self.session = open_session(self.content, self.options, self.path)
        self.inputs = tuple(_slot(item, self.path) for item in self.session.get_inputs())

    def prepare(self, arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        return {slot.name: array for slot, array in zip(self.inputs, arrays, strict=True)}

    def run(self, prepared: dict[str, np.ndarray]) -> list[np.ndarray]:
        found: list[np.ndarray] = self.session.run(None, prepared)
        return found

    def finish(self, outputs: list[np.ndarray]) -> list[np.ndarray]:
        return outputs


def _slot(item: ort.NodeArg, path: Path) -> InputSlot:
    if item.type not in NUMPY_TYPES:
        raise ExportError(f"{path}: input {item.name!r} is {item.type}, expected one of {', '.join(NUMPY_TYPES)}")
    shape = tuple(size if isinstance(size, int) else None for size in item.shape)
    return InputSlot(item.name, shape, np.dtype(NUMPY_TYPES[item.type]))
