"""Compressed sparse rows leave the zeros of a weight out and store the other codes with their positions. Exact.

    along axis a:  rows = the other axes in their order, columns = axis a
    segments[row] .. segments[row + 1]   which of the values lie in that row
    indices                              the column of each value

The axis is the one that takes the fewest bytes: long rows save segments, rows within 256 columns have indices of one
byte. Source: the TFLite schema, SparsityParameters; the compressed axis is the last one of `traversal_order`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from export.tflite.runtime import schema

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


def check_positions(sparsity: Any, shape: Sequence[int], values: float) -> None:
    """Check that the positions of a sparse tensor lie in it, one for each of its values. Blocks are allowed.

    Args:
        sparsity: The schema's `SparsityParametersT`.
        shape: Of the dense tensor.
        values: How many are stored.

    Raises:
        ValueError: What is wrong.
    """
    order, blocks = ([] if part is None else [*map(int, part)] for part in (sparsity.traversalOrder, sparsity.blockMap))
    levels = sparsity.dimMetadata or []
    rank = len(shape)
    if not rank or sorted(order) != list(range(rank + len(blocks))) or len(levels) != len(order):
        raise ValueError(f"traversal order {order} and {len(levels)} levels do not fit shape {list(shape)}")
    if len({*blocks}) != len(blocks) or not {*blocks} <= {*range(rank)}:
        raise ValueError(f"blocks along axes {blocks} of {rank}")
    sizes = [*shape, *(levels[order.index(rank + index)].denseSize for index in range(len(blocks)))]
    for index, axis in enumerate(blocks):
        if sizes[rank + index] < 1 or sizes[axis] % sizes[rank + index]:
            raise ValueError(f"blocks of {sizes[rank + index]} along an axis of {sizes[axis]}")
        sizes[axis] //= sizes[rank + index]
    nodes = 1
    for axis, level in zip(order, levels, strict=True):
        if level.format == schema().DimensionType.DENSE:
            if level.denseSize != sizes[axis]:
                raise ValueError(f"a dense level of {level.denseSize} along an axis of {sizes[axis]}")
            nodes *= level.denseSize
        else:
            nodes = _check_level(level, nodes, sizes[axis])
    if nodes != values:
        raise ValueError(f"{values:g} values at {nodes} positions")


def _check_level(level: Any, rows: int, columns: int) -> int:
    """Check one compressed level; how many positions it has."""
    parts = (level.arraySegments, level.arrayIndices)
    if level.format != schema().DimensionType.SPARSE_CSR or any(part is None or part.values is None for part in parts):
        raise ValueError(f"a level of format {level.format} lacks segments or indices")
    segments, indices = (np.asarray(part.values).astype(np.int64) for part in parts)
    counts = np.diff(segments)
    if len(segments) != rows + 1 or segments[0] != 0 or (counts < 0).any() or segments[-1] != len(indices):
        raise ValueError(f"{len(segments)} segments of {rows} rows and {len(indices)} indices")
    if len(indices) and not 0 <= indices.min() <= indices.max() < columns:
        raise ValueError(f"an index beyond its row of {columns}")
    steps = np.diff(indices)
    firsts = segments[1:-1]
    steps[firsts[(firsts > 0) & (firsts < len(indices))] - 1] = 1
    if (steps <= 0).any():
        raise ValueError("indices that do not ascend in their row")
    return len(indices)


def _positions_bytes(tensor: np.ndarray, axis: int) -> int:
    count = int(np.count_nonzero(tensor))
    rows = tensor.size // tensor.shape[axis]
    return (rows + 1) * _index_type(count).itemsize + count * _index_type(tensor.shape[axis] - 1).itemsize


def _index_type(largest: int) -> np.dtype:
    return next(dtype for dtype in INDEX_TYPES if largest <= np.iinfo(dtype).max)
