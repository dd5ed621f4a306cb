"""This module defines the grid of an activation: uint8 codes with one scale and zero point.

    real = scale * (code - zero_point), code in [0, 255]        (ONNX operator specification, DequantizeLinear)

The range always includes zero, so that zero is a code: paddings and relu are exact.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

QUANT_MAX = 255


@dataclass(frozen=True)
class ActivationEncoding:
    """Holds the grid of one tensor.

    Attributes:
        scale: Distance of neighbouring codes, a positive normal float32 value.
        zero_point: The code of 0, from 0 to 255.

    Raises:
        ValueError: A scale that is no positive normal float32 number, or a zero point outside its range.
    """

    scale: float
    zero_point: int

    def __post_init__(self) -> None:
        limits = np.finfo(np.float32)
        if not (isinstance(self.scale, float) and limits.tiny <= self.scale <= limits.max):
            raise ValueError(f"scale {self.scale!r}, expected a normal positive float32 number")
        if float(np.float32(self.scale)) != self.scale:
            raise ValueError(f"scale {self.scale!r} is no float32 number")
        if isinstance(self.zero_point, bool) or not isinstance(self.zero_point, int):
            raise ValueError(f"zero point {self.zero_point!r}, expected an integer")
        if not 0 <= self.zero_point <= QUANT_MAX:
            raise ValueError(f"zero point {self.zero_point}, expected 0 to {QUANT_MAX}")

    @staticmethod
    def from_range(low: float, high: float) -> "ActivationEncoding":
        """Make the grid whose codes span [low, high], widened to hold zero.

        Raises:
            ValueError: The widened range has no width, or one that gives no float32 scale.
        """
        low, high = min(low, 0.0), max(high, 0.0)
        scale = float(np.float32((high - low) / QUANT_MAX))
        return ActivationEncoding(scale, min(QUANT_MAX, max(0, round(-low / scale)))) if scale else _no_width()

    def quantize(self, x: "Tensor") -> "Tensor":
        """Quantize float32 values of any shape to uint8 codes.

        The code is clip(rint(x / scale) + zero_point, 0, 255), with rint to even.
        """
        import torch  # here, so that files can be read without it

        scale = torch.tensor(self.scale, dtype=torch.float32)
        return ((x / scale).round() + self.zero_point).clamp(0, QUANT_MAX).to(torch.uint8)

    @property
    def low(self) -> float:
        """Return the smallest value that has a code."""
        return -self.scale * self.zero_point

    @property
    def high(self) -> float:
        """Return the largest value that has a code."""
        return self.scale * (QUANT_MAX - self.zero_point)


def _no_width() -> ActivationEncoding:
    raise ValueError("a range of zero width")
