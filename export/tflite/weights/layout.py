"""A tensor of PyTorch lies in the file in another order: channels last, where the runtime's operators want it so.

    stored = flip(tensor.reshape(view), mirrored).transpose(order).reshape(shape)

Moving values only: exact, and undone without loss.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Order = tuple[int, ...]
"""Axis i as stored is PyTorch's axis order[i]."""

CHANNELS_LAST: dict[int, Order] = {3: (0, 2, 1), 4: (0, 2, 3, 1)}
"""It maps the number of dimensions to the order of axes."""


def identity(rank: int) -> Order:
    """Give PyTorch's own order."""
    return tuple(range(rank))


def flat_order(shape: Sequence[int], order: Order) -> Order:
    """Give the axes of more than one value, in their stored order: where it ascends, nothing has moved."""
    return tuple(axis for axis in order if shape[axis] != 1)


@dataclass(frozen=True)
class StoredLayout:
    """Says how one weight lies in a file: `view` has as many dimensions as `order`, `shape` is the stored one.

    `mirrored` are axes of the view that are stored from behind (passes/sparse_inference.py).
    """

    view: tuple[int, ...]
    order: Order
    shape: tuple[int, ...]
    mirrored: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if sorted(self.order) != list(range(len(self.view))) or math.prod(self.view) != math.prod(self.shape):
            raise ValueError(f"layout of view {self.view}, order {self.order} and shape {self.shape}")
        if not set(self.mirrored) <= set(self.order):
            raise ValueError(f"layout of view {self.view} has no axes {self.mirrored}")

    def store(self, tensor: np.ndarray) -> np.ndarray:
        """Give PyTorch's tensor as the file holds it."""
        viewed = np.flip(tensor.reshape(self.view), self.mirrored)
        return np.ascontiguousarray(viewed.transpose(self.order).reshape(self.shape))

    def restore(self, stored: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Undo `store`: a tensor of PyTorch's `shape`."""
        permuted = stored.reshape([self.view[axis] for axis in self.order])
        viewed = np.flip(permuted.transpose(np.argsort(self.order)), self.mirrored)
        return np.ascontiguousarray(viewed.reshape(shape))
