"""This table writes what moves values under many names in the few that every rule and lowering knows. Exact.

    channel_shuffle(x, 2)      ->  reshape, permute, reshape
    repeat, tile, interleave   ->  unsqueeze, expand, reshape
    narrow, tensor_split       ->  slice
    upsample_nearest1d         ->  upsample_nearest2d of an image of one row; nearest-exact likewise
    select_scatter             ->  slices around the row, joined
    pad by (1, -1)             ->  what is cut off first, then the zeros
    rot90(x)                   ->  flip, transpose
    diagonal(x)                ->  every (n + 1)th value of the flattened matrices

Codes pass through all of them as they are.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from codeq.graph.spell import Words, word

aten = torch.ops.aten


def _decompose(operator: Any) -> Words:
    """Take the words of PyTorch, for an operator that it defines by others."""
    return lambda *arguments, **keywords: operator.decompose(*arguments, **keywords)


def _channel_shuffle(x: Tensor, groups: int) -> Tensor:
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


def _repeat(x: Tensor, counts: Sequence[int]) -> Tensor | None:
    for _ in range(len(counts) - x.ndim):
        x = x.unsqueeze(0)
    for axis, count in enumerate(counts):
        if count == 1:
            continue
        if not isinstance(count, int) or not isinstance(x.shape[axis], int):
            return None
        x = _copies(x, axis, count, inner=False)
    return x


def _repeat_interleave(x: Tensor, count: int, axis: int | None = None, **_: Any) -> Tensor | None:
    if axis is None or not isinstance(x.shape[axis], int) or not isinstance(count, int):
        return None
    return _copies(x, axis % x.ndim, count, inner=True)


def _copies(x: Tensor, axis: int, count: int, *, inner: bool) -> Tensor:
    """Repeat each value along an axis, or all of them one after the other."""
    place = axis + inner
    sizes = [-1] * (x.ndim + 1)
    sizes[place] = count
    return x.unsqueeze(place).expand(sizes).flatten(axis, axis + 1)


def _of_a_row(nearest: Any) -> Words:
    def words(x: Tensor, size: Sequence[int] | None, factors: Sequence[float] | None) -> Tensor:
        sizes = None if size is None else [1, *size]
        return word(nearest, x.unsqueeze(2), sizes, None if factors is None else [1.0, *factors]).squeeze(2)

    return words


def _rot90(x: Tensor, turns: int = 1, axes: Sequence[int] = (0, 1)) -> Tensor:
    first, second = axes
    if turns % 4 == 1:
        return x.flip(second).transpose(first, second)
    if turns % 4 == 3:
        return x.flip(first).transpose(first, second)
    return x.flip(first, second) if turns % 4 else x.clone()


def _diagonal(x: Tensor, offset: int = 0, first: int = 0, second: int = 1) -> Tensor | None:
    rows, columns = x.shape[first], x.shape[second]
    if not (isinstance(rows, int) and isinstance(columns, int)):
        return None
    count = min(rows + min(offset, 0), columns - max(offset, 0))
    if count < 1:
        return None
    begin, step = (offset if offset >= 0 else -offset * columns), columns + 1
    flat = x.movedim((first, second), (-2, -1)).flatten(-2)
    return flat[..., begin : begin + (count - 1) * step + 1 : step]


def _select_scatter(x: Tensor, row: Tensor, axis: int, index: int) -> Tensor | None:
    axis, size = axis % x.ndim, x.shape[axis]
    if not isinstance(size, int) or not isinstance(index, int):
        return None
    index %= size
    parts = [x.narrow(axis, 0, index), row.unsqueeze(axis), x.narrow(axis, index + 1, size - index - 1)]
    return torch.cat([part for part in parts if part.shape[axis]], axis)


def _pad(x: Tensor, amounts: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor | None:
    if mode != "constant" or min(amounts, default=0) >= 0 or max(amounts) <= 0:
        return None
    return F.pad(F.pad(x, [min(amount, 0) for amount in amounts]), [max(amount, 0) for amount in amounts], value=value)


MOVES_IN_OTHER_WORDS: Mapping[Any, Words] = {
    **{
        operator: _decompose(operator)
        for operator in (
            aten.broadcast_to.default,
            aten.expand_as.default,
            aten.hsplit.array,
            aten.hsplit.int,
            aten.hstack.default,
            aten.moveaxis.int,
            aten.moveaxis.intlist,
            aten.movedim.int,
            aten.movedim.intlist,
            aten.narrow.default,
            aten.swapaxes.default,
            aten.swapdims.default,
            aten.tensor_split.indices,
            aten.tensor_split.sections,
            aten.vsplit.array,
            aten.vsplit.int,
        )
    },
    aten.channel_shuffle.default: _channel_shuffle,
    aten.constant_pad_nd.default: lambda x, amounts, value=0: _pad(x, amounts, "constant", value),
    aten.pad.default: _pad,
    aten.repeat.default: _repeat,
    aten.repeat_interleave.self_int: _repeat_interleave,
    aten.select_scatter.default: _select_scatter,
    aten.tile.default: lambda x, counts: _repeat(x, [1] * (x.ndim - len(counts)) + list(counts)),
    aten.rot90.default: _rot90,
    aten.diagonal.default: _diagonal,
    aten._upsample_nearest_exact1d.vec: _of_a_row(aten._upsample_nearest_exact2d.vec),
    aten.upsample_nearest1d.vec: _of_a_row(aten.upsample_nearest2d.vec),
}
