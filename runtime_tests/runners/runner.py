"""What every runtime offers to the commands of this package."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from export.program.run import batches


@dataclass(frozen=True)
class InputSlot:
    """One input of a file, axes in PyTorch's order; an open size is None."""

    name: str
    shape: tuple[int | None, ...]
    dtype: np.dtype

    def at_batch(self, batch: int) -> tuple[int, ...]:
        """The shape with open sizes filled in."""
        return tuple(batch if size is None else size for size in self.shape)


class Runner(Protocol):
    """A file for a runtime, from the moment that it was looked at; it runs once `open` was called.

    Attributes:
        runtime: Its name, of RUNTIMES.
        version: Of the runtime.
        inputs: What the file takes.
        note: What was done to the file for this runtime to read it; empty where nothing was.
    """

    runtime: str
    version: str
    inputs: tuple[InputSlot, ...]
    note: str

    def open(self) -> None:
        """Create the session: what is timed as such.

        Raises:
            ExportError: The runtime refuses the file.
        """

    def prepare(self, arrays: Sequence[np.ndarray]) -> Any:
        """Inputs in PyTorch's order, as `run` takes them: the file's order of axes, memory resized to the batch."""

    def run(self, prepared: Any) -> list[np.ndarray]:
        """All outputs, as the runtime gives them: what is timed."""

    def finish(self, outputs: list[np.ndarray]) -> list[np.ndarray]:
        """Outputs of `run` in PyTorch's order of axes; tensors looked at as uint8 codes, behind them."""


def run_batches(runner: Runner, inputs: Sequence[Tensor], batch_size: int) -> list[np.ndarray]:
    """All outputs for all inputs, fed `batch_size` at a time and concatenated; the last batch may be smaller."""
    chunks = []
    for batch in batches(inputs, batch_size):
        prepared = runner.prepare([tensor.contiguous().numpy() for tensor in batch])
        chunks.append([np.array(values) for values in runner.finish(runner.run(prepared))])
    return [np.concatenate(parts) for parts in zip(*chunks, strict=True)]
