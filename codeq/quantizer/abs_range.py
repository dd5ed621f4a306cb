"""Read the range R of a weight tensor, its 0.99 quantile of |w| (arXiv:2512.12981), without sorting the tensor.

The quantile is exact: a sample bounds it from below, and only what lies above that bound, hardly more than the top 1 %,
is sorted. While a weight trains its range is read again every REFRESH_CALLS forward passes only; evaluation, freezing
and encoding always read it exactly.
"""

import math
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

Range = TypeVar("Range")
RANGE_QUANTILE = 0.99
LEAST_RANGE = 1e-30
"""It keeps scale = range / 127 a normal float32."""
REFRESH_CALLS = 10
"""Forward passes in training that share one range: weights move little in ten steps, and a tenth of the cost is little
next to the quantizer's own passes over the weight."""
SAMPLE_SIZE = 2**14
SAMPLE_DEVIATIONS = 5
"""How far below the sample's quantile the bound lies, in standard deviations of the sample's rank."""


def abs_quantile(w: Tensor, q: float) -> Tensor:
    """Compute the exact q-quantile of |w| with linear interpolation, as `torch.quantile`, for any number of elements.

    Args:
        w: Any shape, at least one element.
        q: In [0, 1].

    Returns:
        float32 `()`, without gradient.
    """
    magnitude = w.detach().abs().flatten()
    position, needed = _position(magnitude, q)
    return _interpolate(_above_bound(magnitude, needed), needed, position)


def plain_abs_quantile(w: Tensor, q: float) -> Tensor:
    """Compute `abs_quantile` by its definition, a selection from the whole tensor."""
    magnitude = w.detach().abs().flatten()
    position, needed = _position(magnitude, q)
    return _interpolate(magnitude, needed, position)


def _position(magnitude: Tensor, q: float) -> tuple[float, int]:
    """Where the quantile lies between two neighbours in order, and how many elements the lower one and above are."""
    position = q * (magnitude.numel() - 1)
    return position % 1, magnitude.numel() - math.floor(position)


def _interpolate(candidates: Tensor, needed: int, position: float) -> Tensor:
    top = candidates.topk(needed, sorted=False).values
    if position == 0:
        return top.min()
    below, above = top.topk(2, largest=False).values
    return torch.lerp(below, above, position)


def _above_bound(magnitude: Tensor, needed: int) -> Tensor:
    """Some elements, among them the `needed` largest: all, or those above a bound that a sample gives."""
    count = magnitude.numel()
    if count < 4 * SAMPLE_SIZE:
        return magnitude
    # An odd stride visits every position of a kernel, whose sizes in memory are mostly powers of two.
    sample = magnitude[:: count // SAMPLE_SIZE | 1]
    share = needed / count
    deviation = math.sqrt(len(sample) * share * (1 - share))
    rank = math.ceil(len(sample) * share + SAMPLE_DEVIATIONS * deviation) + 1
    if rank >= len(sample):
        return magnitude
    candidates = magnitude[magnitude >= sample.topk(rank).values[-1]]
    return candidates if candidates.numel() >= needed else magnitude


def abs_range(w: Tensor, q: float, quantile_of: Callable[[Tensor, float], Tensor] = abs_quantile) -> float:
    """Make a quantile of |w| positive: max|w| where fewer than 1 - q of the weights are non-zero, 1 where none is."""
    quantile = float(quantile_of(w, q))
    if quantile == 0:
        quantile = float(w.detach().abs().max())
    # A range of 1 gives an all-zero tensor an ordinary scale.
    return 1.0 if quantile == 0 else max(quantile, LEAST_RANGE)


class RangeCache(Generic[Range]):
    """Keeps the range of one trained tensor for REFRESH_CALLS calls; a copy of a cache starts empty.

    Args:
        read: Reads the range exactly: from the tensor and a quantile to a number, or to one for each channel.
    """

    def __init__(self, read: Callable[[Tensor, float], Range]) -> None:
        self._read = read
        self.clear()

    def clear(self) -> None:
        """Read the range anew at the next call."""
        self._owner: weakref.ref[Tensor] | None = None
        self._q = math.nan
        self._calls = 0
        self._range: Range | None = None

    def get(self, owner: Tensor, w: Tensor, q: float) -> Range:
        """Return the range as it was at most REFRESH_CALLS - 1 calls ago; exact for another owner or another q.

        `owner` is the trained tensor that `w` was read from, or `w`. A write into it is seen at the next reading.
        """
        stale = self._owner is None or self._owner() is not owner or self._q != q or self._calls >= REFRESH_CALLS
        if self._range is None or stale:
            self._owner, self._q, self._calls = weakref.ref(owner), q, 0
            self._range = self._read(w, q)
        self._calls += 1
        return self._range

    def __reduce__(self) -> tuple[Any, ...]:
        return RangeCache, (self._read,)
