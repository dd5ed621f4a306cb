"""This table writes pools and windows under other names in slices, joins and pools of images. Exact.

    x.unfold(2, 3, 1)            ->  the first value of every window, the second, the third: slices, stacked
    unfold(x, 3), im2col         ->  likewise, for each place of a window
    either without overlap       ->  reshape, permute: the patches of a vision transformer
    avg_pool1d(x, ...)           ->  avg_pool2d of an image of one row; adaptive_avg_pool1d of equal windows likewise
    adaptive_max_pool2d(x, ...)  ->  max_pool2d; of windows that differ in size, bands of rows, then of columns, joined

Codes pass through all of them but the average, which has a rule for codes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from codeq.graph.spell import Words, word

aten = torch.ops.aten

IMAGE = 4
"""The dimensions of a batch of images."""


def _windows(x: Tensor, axis: int, size: int, step: int) -> Tensor | None:
    axis %= x.ndim
    length = x.shape[axis]
    if not isinstance(length, int):
        return None
    count = (length - size) // step + 1
    if step == size:
        return x.narrow(axis, 0, count * size).unflatten(axis, (count, size)).movedim(axis + 1, -1)
    if count < size:
        windows = torch.stack([x.narrow(axis, index * step, size) for index in range(count)], axis)
        return windows.movedim(axis + 1, -1)
    return torch.stack([_every(x, axis, place, step, count) for place in range(size)], -1)


def _every(x: Tensor, axis: int, first: int, step: int, count: int) -> Tensor:
    """Take `count` values along an axis, `step` apart."""
    taken: Tensor = aten.slice.Tensor(x, axis, first, first + (count - 1) * step + 1, step)
    return taken


def _columns(
    x: Tensor, kernel: Sequence[int], dilation: Sequence[int], padding: Sequence[int], stride: Sequence[int]
) -> Tensor | None:
    if x.ndim != IMAGE or not all(isinstance(size, int) for size in x.shape[2:]):
        return None
    if any(padding):
        x = F.pad(x, (padding[1], padding[1], padding[0], padding[0]))
    if list(stride) == list(kernel) and set(dilation) == {1}:
        rows = _windows(x, 2, kernel[0], stride[0])
        patches = None if rows is None else _windows(rows, 3, kernel[1], stride[1])
        return None if patches is None else patches.permute(0, 1, 4, 5, 2, 3).flatten(1, 3).flatten(2)
    high, wide = (
        (size - (width - 1) * apart - 1) // step + 1
        for size, width, apart, step in zip(x.shape[2:], kernel, dilation, stride, strict=True)
    )
    places = []
    for i in range(kernel[0]):
        rows = _every(x, 2, i * dilation[0], stride[0], high)
        places += [_every(rows, 3, j * dilation[1], stride[1], wide).flatten(2) for j in range(kernel[1])]
    return torch.stack(places, 2).flatten(1, 2)


def _mean_of_a_row(
    x: Tensor, kernel: Any, stride: Any = (), padding: Any = 0, ceil: bool = False, count: bool = True
) -> Tensor | None:
    if x.ndim != IMAGE - 1:
        return None
    (width,), (pad,) = ([value] if isinstance(value, int) else value for value in (kernel, padding))
    steps = [stride] if isinstance(stride, int) else list(stride)
    numbers = ([1, width], [1, *steps] if steps else [], [0, pad], ceil, count)
    return word(aten.avg_pool2d.default, x.unsqueeze(2), *numbers).squeeze(2)


def _mean_of_equal_windows(x: Tensor, outputs: Sequence[int]) -> Tensor | None:
    size = x.shape[-1]
    if x.ndim != IMAGE - 1 or not isinstance(size, int) or size % outputs[0]:
        return None
    return word(aten.adaptive_avg_pool2d.default, x.unsqueeze(2), [1, *outputs]).squeeze(2)


def _largest(x: Tensor, kernel: Sequence[int]) -> Tensor:
    return word(aten.max_pool2d.default, x, kernel, kernel) if max(kernel) > 1 else x


def _largest_of_windows(x: Tensor, outputs: Sequence[int]) -> tuple[Tensor, None] | None:
    """Read from floor(i n / m) to ceil((i + 1) n / m) for output i of m, as PyTorch does."""
    sizes = x.shape[2:]
    if x.ndim != IMAGE or not all(isinstance(size, int) for size in sizes):
        return None
    if not any(size % count for size, count in zip(sizes, outputs, strict=True)):
        return _largest(x, [size // count for size, count in zip(sizes, outputs, strict=True)]), None
    for axis, size, count in zip((2, 3), sizes, outputs, strict=True):
        borders = [(index * size // count, -(-(index + 1) * size // count)) for index in range(count)]
        bands = [x.narrow(axis, begin, end - begin) for begin, end in borders]
        widths = [[end - begin, 1] if axis == 2 else [1, end - begin] for begin, end in borders]
        x = torch.cat([_largest(band, kernel) for band, kernel in zip(bands, widths, strict=True)], axis)
    return x, None


def _largest_of_a_row(x: Tensor, outputs: Sequence[int]) -> tuple[Tensor, None] | None:
    if x.ndim != IMAGE - 1:
        return None
    found = _largest_of_windows(x.unsqueeze(2), [1, *outputs])
    return None if found is None else (found[0].squeeze(2), None)


ADAPTIVE: Mapping[Any, Words] = {
    aten.adaptive_max_pool1d.default: _largest_of_a_row,
    aten.adaptive_max_pool2d.default: _largest_of_windows,
}
"""Of these the values alone; where the places are read, a node stays as it is."""

WINDOWS_IN_OTHER_WORDS: Mapping[Any, Words] = {
    aten.adaptive_avg_pool1d.default: _mean_of_equal_windows,
    aten.avg_pool1d.default: _mean_of_a_row,
    aten.im2col.default: _columns,
    aten.unfold.default: _windows,
    **ADAPTIVE,
}
