"""An input of a file, whatever the file's format."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class InputSlot:
    """Describes one input of a file, axes in PyTorch's order; an open size is None."""

    name: str
    shape: tuple[int | None, ...]
    dtype: "np.dtype"

    def at_batch(self, batch: int) -> tuple[int, ...]:
        """Fill in the open sizes."""
        return tuple(batch if size is None else size for size in self.shape)
