"""This module says what a method of compression sees of a layer: a matrix, the moments of its inputs, and a grid."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from codeq.quantizer.levels import dequantize_levels, quantize_levels


@dataclass(frozen=True, eq=False)
class RowGrid:
    """Holds the dead-zone grid of every row.

    value = scale[row] * (multiplier * level + offset * sign(level)), |level| <= quant_max; a weight's own level is
    that of codeq/quantizer/levels.py, bit for bit.

    Attributes:
        scale: float32 `(rows,)`.
        multiplier, offset, quant_max: As in codeq/quantizer/grid.py.
    """

    scale: Tensor
    multiplier: int
    offset: int
    quant_max: int

    def levels(self, values: Tensor) -> Tensor:
        """Give the level of every value, float32 `(rows, n)` in and out."""
        scale = self.scale.double()[:, None]
        inverse = (1 / (scale * self.multiplier).float().double()).float()
        levels, _ = quantize_levels(values.float(), inverse, (scale * self.offset).float(), self.quant_max)
        return levels

    def values(self, levels: Tensor) -> Tensor:
        """Give the value of every level, float32 `(rows, n)`."""
        return dequantize_levels(levels.float(), self.multiplier, self.offset, self.scale[:, None], 0.0)


@dataclass(frozen=True, eq=False)
class LayerProblem:
    """Holds what is known of one layer, or one group of a convolution.

    Attributes:
        weight: float32 `(rows, columns)`: output channels by inputs.
        moments: float64 `(columns, columns)`: the mean of x x^T as estimated from samples (moments.py), x being what
            the layer reads in the network as it is compressed so far.
        cross: float64 `(columns, columns)`: that of x y^T, y being what it reads in the float network; None where both
            are the same.
    """

    weight: Tensor
    moments: Tensor
    cross: Tensor | None = None


Method = Callable[[LayerProblem, RowGrid], Tensor]
"""Chooses the levels of a layer, int8 `(rows, columns)`."""
