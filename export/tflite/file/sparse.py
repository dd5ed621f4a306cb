"""Compressed sparse rows leave the zeros of a weight out and store the other codes with their positions. Exact.

    along axis a:  rows = the other axes in their order, columns = axis a
    segments[row] .. segments[row + 1]   which of the values lie in that row
    indices                              the column of each value

The axis is the one that takes the fewest bytes: long rows save segments, rows within 256 columns have indices of one
byte. Source: the TFLite schema, SparsityParameters; the compressed axis is the last one of `traversal_order`.
"""

from dataclasses import dataclass

import numpy as np

INDEX_TYPES = (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.int32))
"""Segments and indices have these types in the schema."""


@dataclass(frozen=True, eq=False)
class CompressedRows:
    """Holds a tensor without its zeros. `order` is the traversal order, its last axis the compressed one."""

    shape: tuple[int, ...]
    order: tuple[int, ...]
    values: np.ndarray
    segments: np.ndarray
    indices: np.ndarray

    @property
    def nbytes(self) -> int:
        """Give the bytes of values, segments and indices."""
        return self.values.nbytes + self.segments.nbytes + self.indices.nbytes

    def restore(self) -> np.ndarray:
        """Give the dense tensor.

        Raises:
            ValueError: The parts contradict each other; which would put values where none belong.
        """
        moved = tuple(self.shape[axis] for axis in self.order)
        rows, columns = int(np.prod(moved[:-1])), moved[-1]
        segments = self.segments.astype(np.int64)
        counts: np.ndarray = segments[1:] - segments[:-1]
        if len(counts) != rows or self.segments[0] != 0 or (counts < 0).any():
            raise ValueError(f"{len(self.segments)} segments, expected {rows + 1} that ascend from 0")
        if not len(self.values) == len(self.indices) == self.segments[-1]:
            raise ValueError(f"{len(self.values)} values, {len(self.indices)} indices, {self.segments[-1]} in rows")
        if len(self.indices) and not 0 <= self.indices.min() <= self.indices.max() < columns:
            raise ValueError(f"an index beyond its row of {columns}")
        dense = np.zeros((rows, columns), self.values.dtype)
        dense[np.repeat(np.arange(rows), counts), self.indices] = self.values
        return np.ascontiguousarray(dense.reshape(moved).transpose(np.argsort(self.order)))


def compress(tensor: np.ndarray) -> CompressedRows:
    """Leave the zeros of a tensor of one or more dimensions out, along the axis that takes the fewest bytes."""
    axis = min(reversed(range(tensor.ndim)), key=lambda axis: _positions_bytes(tensor, axis))
    order = (*(other for other in range(tensor.ndim) if other != axis), axis)
    rows = tensor.transpose(order).reshape(-1, tensor.shape[axis])
    counts = np.count_nonzero(rows, axis=1)
    segments = np.concatenate([[0], np.cumsum(counts)])
    where = np.nonzero(rows)
    return CompressedRows(
        tensor.shape,
        order,
        rows[where],
        segments.astype(_index_type(int(segments[-1]))),
        where[1].astype(_index_type(tensor.shape[axis] - 1)),
    )


def _positions_bytes(tensor: np.ndarray, axis: int) -> int:
    count = int(np.count_nonzero(tensor))
    rows = tensor.size // tensor.shape[axis]
    return (rows + 1) * _index_type(count).itemsize + count * _index_type(tensor.shape[axis] - 1).itemsize


def _index_type(largest: int) -> np.dtype:
    return next(dtype for dtype in INDEX_TYPES if largest <= np.iinfo(dtype).max)
