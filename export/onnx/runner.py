"""This runner opens ONNX files in onnxruntime, with the session options that a file of ours carries."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort

from codeq.errors import first_line
from codeq.toolkit.text import printable
from export.errors import ExportError
from export.input_slot import InputSlot
from export.metadata import KEY, StateMetadata
from export.onnx.kernels import open_optimized
from export.onnx.probe import with_codes
from export.onnx.sessions import (
    EXTERNAL_FOLDER,
    MAX_REASON,
    file_options,
    load_model,
    open_session,
    read_metadata,
    session_options,
)
from export.program.names import codes_name

NUMPY_TYPES: Mapping[str, type] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(bool)": np.bool_,
    **{f"tensor({sign}int{bits})": np.dtype(f"{sign}int{bits}").type for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


class OnnxruntimeRunner:
    """See `Runner`. `nodes` is the optimized graph, node name to operator, where it was asked for.

    What one call leaves for the next is fed back, from its first value on when the session is opened; it comes behind
    the outputs of each call, with one axis at least.

    Args:
        path: An ONNX file, whoever wrote it.
        threads, look_at: As for `Backend.open_runner`.
        level: As for `load_session`.
        exact: Apply the session options that the file carries.
        with_nodes: Note what onnxruntime makes of the file.
    """

    runtime = "onnxruntime"
    version = str(ort.__version__)
    note = ""
    inputs: tuple[InputSlot, ...] = ()
    outputs: tuple[str, ...] = ()

    def __init__(
        self,
        path: Path,
        threads: int | None = None,
        look_at: Sequence[str] = (),
        *,
        level: str = "enable_all",
        exact: bool = True,
        with_nodes: bool = False,
    ) -> None:
        model = load_model(path)
        entries: dict[str, str] = {}
        self.state: tuple[StateMetadata, ...] = ()
        if look_at or any(entry.key == KEY for entry in model.metadata_props):
            metadata = read_metadata(model, path)
            entries = file_options(metadata) if exact else {}
            self.state = metadata.state
        self.path = path
        self.content: Path | bytes = path
        if look_at:
            entries = entries | {EXTERNAL_FOLDER: str(path.parent)}
            self.content = with_codes(model, [*map(codes_name, look_at)], path)
        self.options = session_options(level, threads, entries)
        self.with_nodes = with_nodes
        self.nodes: dict[str, str] = {}

    def open(self) -> None:
        if self.with_nodes:
            self.session, self.nodes = open_optimized(self.content, self.options, self.path)
        else:
            self.session = open_session(self.content, self.options, self.path)
        self.left = {tensor.input: tensor.initial_value() for tensor in self.state}
        self.inputs = tuple(_slot(item, self.path) for item in self.session.get_inputs() if item.name not in self.left)
        self.outputs = tuple(item.name for item in self.session.get_outputs())

    def prepare(self, arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        return {slot.name: array for slot, array in zip(self.inputs, arrays, strict=True)}

    def run(self, prepared: dict[str, np.ndarray]) -> list[np.ndarray]:
        try:
            found: list[np.ndarray] = self.session.run(None, prepared | self.left)
        except Exception as error:  # onnxruntime's exceptions share no public base class
            reason = printable(first_line(error), MAX_REASON)
            raise ExportError(f"{self.path}: onnxruntime {ort.__version__} cannot run it ({reason})") from error
        for tensor in self.state:
            self.left[tensor.input] = found[self.outputs.index(tensor.output)]
        return found

    def finish(self, outputs: list[np.ndarray]) -> list[np.ndarray]:
        return [*map(np.atleast_1d, outputs)] if self.state else outputs


def _slot(item: ort.NodeArg, path: Path) -> InputSlot:
    if item.type not in NUMPY_TYPES:
        raise ExportError(f"{path}: input {item.name!r} is {item.type}, expected one of {', '.join(NUMPY_TYPES)}")
    shape = tuple(size if isinstance(size, int) else None for size in item.shape)
    return InputSlot(item.name, shape, np.dtype(NUMPY_TYPES[item.type]))
