"""A runner is a file opened in a runtime, in the form that all runtimes offer: what is timed, compared and checked runs
through it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from export.errors import ExportError
from export.input_slot import InputSlot
from export.program.run import batches


class Runner(Protocol):
    """This protocol is a file for a runtime, from the moment that it was looked at; it runs once `open` was called.

    Attributes:
        runtime: The runtime's name, as texts call it.
        version: Of the runtime.
        inputs: What the file takes.
        note: What was done to the file for this runtime to read it; empty where nothing was.
        content: What the runtime opens: the file, or a copy of it that shows more.
    """

    runtime: str
    version: str
    inputs: tuple[InputSlot, ...]
    note: str
    content: Path | bytes

    def open(self) -> None:
        """Create the session: what is timed as such.

        Raises:
            ExportError: The runtime refuses the file.
        """

    def prepare(self, arrays: Sequence[np.ndarray]) -> Any:
        """Bring inputs in PyTorch's order into the form that `run` takes: order of axes, memory sized to the batch."""

    def run(self, prepared: Any) -> list[np.ndarray]:
        """Compute all outputs, as the runtime gives them: what is timed."""

    def finish(self, outputs: list[np.ndarray]) -> list[np.ndarray]:
        """Bring outputs of `run` into PyTorch's order of axes; tensors looked at as uint8 codes, behind them."""


def run_batches(runner: Runner, inputs: Sequence[Tensor], batch_size: int) -> list[np.ndarray]:
    """Compute all outputs for all inputs, fed `batch_size` at a time and concatenated; a last batch may be smaller.

    Raises:
        ExportError: The runtime cannot run the file, or an output has no batch in front.
    """
    chunks = []
    for batch in batches(inputs, batch_size):
        prepared = runner.prepare([tensor.detach().contiguous().numpy() for tensor in batch])
        chunks.append([np.array(values) for values in runner.finish(runner.run(prepared))])
    return [_joined(number, parts) for number, parts in enumerate(zip(*chunks, strict=True))]


def _joined(number: int, parts: Sequence[np.ndarray]) -> np.ndarray:
    if len({part.shape[1:] for part in parts}) > 1 or not all(part.ndim for part in parts):
        shapes = " and ".join(sorted({str(part.shape) for part in parts}))
        raise ExportError(f"its output {number} has shape {shapes}, expected the batch as first dimension")
    return np.concatenate(parts)


def check_inputs(runner: Runner, path: Path, inputs: Sequence[Tensor], names: Sequence[str] = ()) -> None:
    """See that a file takes such inputs.

    Args:
        runner: The file, opened.
        path: For messages.
        inputs: In the network's order.
        names: Of the network's arguments, where they are given by name.

    Raises:
        ExportError: It is the file of another network.
    """
    if len(runner.inputs) != len(inputs):
        raise ExportError(f"{path}: takes {len(runner.inputs)} inputs, found {len(inputs)}")
    wanted = tuple(slot.name for slot in runner.inputs)
    if names and tuple(names) != wanted:
        raise ExportError(f"{path}: takes {', '.join(wanted)}, found {', '.join(names)}")
    for slot, tensor in zip(runner.inputs, inputs, strict=True):
        found, dtype = tuple(tensor.shape), tensor.detach().numpy().dtype
        expected = slot.at_batch(found[0])[1:] if slot.shape else None
        if expected != found[1:] or len(slot.shape) != tensor.ndim or np.dtype(slot.dtype) != dtype:
            sizes = ["N" if size is None else size for size in slot.shape]
            raise ExportError(
                f"{path}: input {slot.name!r} takes {slot.dtype} {sizes}, found {dtype} {list(found)}; "
                "is it the file of another network?"
            )
