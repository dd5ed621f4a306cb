"""Compare signals with what quantization leaves of them.

    signal to noise = 10 log10(sum of y^2 / sum of (y - z)^2)   dB

y is the signal, z what is left of it. 20 dB are an error of a tenth, 10 dB of a third; 6 dB are a bit.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK = 1 << 14
"""Values that are summed in float32, to 1e-5 for so many (4e-5 dB); the sums of chunks are summed in float64. One
sum in float64 takes five times the time."""
GOOD_DB = 15.0
"""Below it an output is not worth shipping: its noise is more than a sixth of it."""
LIMIT_DB = 200.0
"""Stands for no noise at all, and -LIMIT_DB for noise without a signal: further apart than float64 can tell."""


@dataclass
class Power:
    """Adds up the squares of a signal and of its noise."""

    signal: float = 0.0
    noise: float = 0.0

    def add(self, wanted: Tensor, found: Tensor) -> None:
        """Add the values of one tensor. Equal infinities are equal; what only one of both has is noise without end."""
        signal, noise = _sum_of_squares(wanted), _sum_of_squares(wanted - found)
        if math.isfinite(signal) and math.isfinite(noise):
            self.signal += signal
            self.noise += noise
            return
        wide, other = wanted.double(), found.double()
        same = wide == other
        finite = wide.isfinite() & other.isfinite()
        if not bool((same | finite).all()):
            self.noise = math.inf
            return
        self.signal += float(wide[wide.isfinite()].square().sum())
        self.noise += float((wide - other)[~same].square().sum())

    @property
    def decibels(self) -> float:
        """Signal to noise, within LIMIT_DB."""
        if not self.noise:
            return LIMIT_DB
        if not self.signal or math.isinf(self.noise):
            return -LIMIT_DB
        return max(-LIMIT_DB, min(LIMIT_DB, 10 * math.log10(self.signal / self.noise)))


def _sum_of_squares(x: Tensor) -> float:
    """Sum in float64; infinite or NaN where a value is, or where a square is beyond float32."""
    wide = x if x.dtype == torch.float64 else x.float()
    return sum(float(torch.linalg.vector_norm(chunk)) ** 2 for chunk in wide.flatten().split(CHUNK))


def decibels_text(decibels: float) -> str:
    """Write a signal to noise for people."""
    return "exact" if decibels == LIMIT_DB else f"{decibels:.1f} dB"
