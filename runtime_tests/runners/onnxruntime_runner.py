"""ONNX files in onnxruntime, with the session options that a file of ours carries."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from export.errors import ExportError
from export.metadata import KEY, read_metadata
from export.sessions import EXTERNAL_FOLDER, load_model, load_session, open_session, session_options
from export.verify_integer import with_codes
from runtime_tests.runners.runner import InputSlot

NUMPY_TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32}


class OnnxruntimeRunner:
    """See `Runner`."""

    runtime = "onnxruntime"
    version = str(ort.__version__)
    note = ""

    def __init__(self, path: Path, threads: int | None = None, look_at: Sequence[str] = ()) -> None:
        model = load_model(path)
        ours = any(entry.key == KEY for entry in model.metadata_props)
        if look_at:
            self.session = _open_probe(model, path, threads, look_at)
        elif ours:
            self.session = load_session(path, threads=threads)
        else:
            self.session = open_session(path, session_options("enable_all", threads), path)
        self.inputs = tuple(_slot(item, path) for item in self.session.get_inputs())

    def prepare(self, arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        return {slot.name: array for slot, array in zip(self.inputs, arrays, strict=True)}

    def run(self, prepared: dict[str, np.ndarray]) -> list[np.ndarray]:
        found: list[np.ndarray] = self.session.run(None, prepared)
        return found

    def finish(self, outputs: list[np.ndarray]) -> list[np.ndarray]:
        return outputs


def _open_probe(
    model: onnx.ModelProto, path: Path, threads: int | None, look_at: Sequence[str]
) -> ort.InferenceSession:
    entries = read_metadata(model, path).session_options | {EXTERNAL_FOLDER: str(path.parent)}
    probe = with_codes(model, [f"{name}_quantized" for name in look_at], path)
    return open_session(probe, session_options("enable_all", threads, entries), path)


def _slot(item: ort.NodeArg, path: Path) -> InputSlot:
    if item.type not in NUMPY_TYPES:
        raise ExportError(f"{path}: input {item.name!r} is {item.type}, expected one of {', '.join(NUMPY_TYPES)}")
    shape = tuple(size if isinstance(size, int) else None for size in item.shape)
    return InputSlot(item.name, shape, np.dtype(NUMPY_TYPES[item.type]))
