"""Choose the range of an activation from the values that calibration inputs give."""

import logging
import math

import numpy as np
import torch
from torch import Tensor

from codeq.activations.encoding import QUANT_MAX, ActivationEncoding
from codeq.activations.methods import Method
from codeq.errors import CalibrationError

logger = logging.getLogger(__name__)

BINS = 2048
"""Bins of the histogram for each sign."""
LARGEST = 2.0**120
"""Larger values get no grid: they are no activations but masks, and float32 ends near them."""
SMALLEST = QUANT_MAX * float(np.finfo(np.float32).tiny)
"""A narrower range has no float32 scale, and nothing but zeros in it as far as any sum can tell."""
UNKNOWN = 1.0
"""The largest magnitude of what was never anything but zero, for which any range would do: with steps near 1/255 the
biases of layers that read it stay exact enough, and kernels add it to tensors of other scales."""
SAMPLE = 2**16 + 1
"""At most so many values of a tensor enter its histogram, evenly spread (odd: a power of two would hit one column of an
image only); the limits are those of all."""
PERCENTILE = 0.9999
"""Share of values inside the range of "percentile"; the rest saturates."""
CLIPS = np.linspace(0.2, 1.0, 81)
"""Shares of the observed range that "mse" tries."""


class RangeObserver:
    """Collects what one tensor, or several that share a grid, takes as values: exact limits and a histogram.

    The histogram spans [-reach, reach); where a value lies outside, reach doubles and neighbouring bins become one.
    """

    def __init__(self, name: str, *, from_zero: bool = False) -> None:
        """Start with nothing seen.

        Args:
            name: Of the tensor, for messages.
            from_zero: Whether a clamp such as relu makes it, so that its grid must start at zero.
        """
        self.name = name
        self.from_zero = from_zero
        self.low = math.inf
        self.high = -math.inf
        self.reach = 0.0
        self.unfit = ""
        self.counts = np.zeros(2 * BINS)

    def observe(self, x: Tensor) -> None:
        """Count the values of a tensor; where no grid can hold them, `unfit` says why from then on.

        Raises:
            CalibrationError: NaN.
        """
        if not x.numel() or self.unfit:
            return
        low, high = (float(limit) for limit in torch.aminmax(x))
        if math.isnan(low) or math.isnan(high):
            raise CalibrationError(
                f"{self.name}: the calibration inputs give NaN there; check their preprocessing, or leave the layer out"
            )
        if max(-low, high) > LARGEST:
            self.unfit = "infinite values" if math.isinf(max(-low, high)) else f"values of {max(-low, high):.3g}"
            return
        self.low, self.high = min(self.low, low), max(self.high, high)
        largest = max(-self.low, self.high)
        if self.reach == 0.0 and largest > 0.0:
            # A power of two, so that every doubled histogram has the bins it would have had from the start.
            self.reach = 2.0 ** math.ceil(math.log2(largest))
            self.counts[0], self.counts[BINS] = 0, self.counts[0]  # what was seen before was zero
        while self.reach < largest:
            halves = self.counts.reshape(-1, 2).sum(1)
            self.counts = np.pad(halves, BINS // 2)
            self.reach *= 2
        sample = x.flatten()[:: -(-x.numel() // SAMPLE)]
        if self.reach > 0.0:
            self.counts += torch.histc(sample, 2 * BINS, -self.reach, self.reach).double().numpy()
        else:
            self.counts[0] += sample.numel()

    def encoding(self, method: Method) -> ActivationEncoding:
        """Choose the grid for what was seen.

        Raises:
            CalibrationError: Values that no grid can hold.
        """
        if self.unfit:
            raise CalibrationError(
                f"{self.name}: the calibration inputs give {self.unfit} there, which no grid can hold; check their "
                "preprocessing, or leave the layers that make and read it out"
            )
        low, high = min(self.low, 0.0), max(self.high, 0.0)
        if high - low < SMALLEST:
            logger.warning("%s: every calibration input gives zeros there; its range is a guess", self.name)
            return ActivationEncoding.from_range(0.0 if self.from_zero else -UNKNOWN, UNKNOWN)
        first, last = low, high
        if method == "percentile":
            first, last = self._percentile(low, high)
        elif method == "mse":
            first, last = self._least_squares(low, high)
        # So many zeros that all else is cut off: then nothing is.
        return ActivationEncoding.from_range(*((low, high) if last - first < SMALLEST else (first, last)))

    def _percentile(self, low: float, high: float) -> tuple[float, float]:
        """Cut (1 - PERCENTILE) of all values, from both ends alike where there are two."""
        share = np.cumsum(self.counts) / self.counts.sum()
        edges = np.linspace(-self.reach, self.reach, 2 * BINS + 1)
        tail = (1 - PERCENTILE) / (2 if low < 0 < high else 1)
        first = edges[int(np.searchsorted(share, tail, side="right"))] if low < 0 else 0.0
        last = edges[min(2 * BINS, int(np.searchsorted(share, 1 - tail)) + 1)] if high > 0 else 0.0
        return max(low, min(float(first), 0.0)), min(high, max(float(last), 0.0))

    def _least_squares(self, low: float, high: float) -> tuple[float, float]:
        """The range of least squared error: both ends shrunk together first, then each for itself."""
        used = np.flatnonzero(self.counts)
        centers = (used + 0.5 - BINS) * (self.reach / BINS)
        counts = self.counts[used]

        def best(candidates: list[tuple[float, float]]) -> tuple[float, float]:
            return min(candidates, key=lambda ends: _squared_error(counts, centers, *ends))

        low, high = best([(low * clip, high * clip) for clip in CLIPS[::-1]])
        if low < 0 < high:
            low, high = best([(low * clip, high) for clip in CLIPS[::-1]])
            low, high = best([(low, high * clip) for clip in CLIPS[::-1]])
        return low, high


def _squared_error(counts: np.ndarray, values: np.ndarray, low: float, high: float) -> float:
    scale = (high - low) / QUANT_MAX
    zero = np.rint(-low / scale)
    codes = np.clip(np.rint(values / scale) + zero, 0, QUANT_MAX)
    return float((counts * (values - scale * (codes - zero)) ** 2).sum())
