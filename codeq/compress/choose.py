"""Choose the codes of one weight: ranges by squared error, a dead zone for the zeros wanted, levels by a method."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from codeq.compress.columns import Layer
from codeq.compress.problem import LayerProblem, Method, RowGrid
from codeq.compress.ranges import row_grid, squared_error_ranges, uniform_theta
from codeq.quantizer.attach import QuantizedWeight
from codeq.quantizer.choices import MIN_THETA
from codeq.quantizer.dead_zone import DeadZoneQuantizer
from codeq.quantizer.grid import float32

ZEROS_TRIES = 8
ZEROS_MARGIN = 0.004
"""Zeros end as near as this to what is wanted, or after so many tries; plain rounding says where to begin."""


@dataclass(frozen=True, eq=False)
class Placement:
    """Says where the levels of a weight may lie: on a grid per row, stretched to ranges that are searched for once.

    Attributes:
        quantizer: Whose grids they are; it is not changed.
        layer: What reads the weight.
        matrix: The weight, float32 `(groups, rows, columns)`.
        bits: Of the codes.
        least_scale: Smallest scale of every output channel, `(C,)`; None for none.
        searched: The range of every output channel, `(C,)`, or of the whole weight, `(1,)`.
    """

    quantizer: DeadZoneQuantizer
    layer: Layer
    matrix: Tensor
    bits: int
    least_scale: Tensor | None
    searched: Tensor

    @classmethod
    def search(
        cls,
        quantizer: DeadZoneQuantizer,
        layer: Layer,
        matrix: Tensor,
        bits: int,
        least_scale: Tensor | None = None,
    ) -> "Placement":
        """Search the ranges by squared error."""
        unit = quantizer.grid_at(lambda q: 1.0, uniform_theta(bits), bits)
        if not quantizer.per_channel:
            searched = squared_error_ranges(matrix.reshape(1, -1), unit)
        elif layer.transposed:  # an output channel of every group has one range
            searched = squared_error_ranges(matrix.transpose(0, 1).flatten(1), unit)
        else:
            searched = squared_error_ranges(matrix.flatten(0, 1), unit)
        return cls(quantizer, layer, matrix, bits, least_scale, searched)

    def reach(self, theta: float) -> Tensor:
        """Give the ranges at a dead zone: those searched, or wider ones where a scale would be too small."""
        unit = self.quantizer.grid_at(lambda q: 1.0, theta, self.bits)
        if self.least_scale is None or len(self.least_scale) != len(self.searched):
            return self.searched
        return torch.maximum(self.searched, self.least_scale * (unit.multiplier * unit.quant_max + unit.offset))

    def grids(self, theta: float) -> list[RowGrid]:
        """Give the grid of every row at a dead zone, one set per group."""
        unit = self.quantizer.grid_at(lambda q: 1.0, theta, self.bits)
        return [row_grid(unit, part) for part in self._per_row(self.reach(theta))]

    def theta_for(self, zeros: float) -> float:
        """Give the theta at which plain rounding makes a share of the weights zero, or a few more."""
        narrow = uniform_theta(self.bits)
        if not zeros:
            return narrow
        sizes = (self.matrix.abs() / self._per_row(self.searched)[..., None]).flatten()
        border = float(sizes.kthvalue(max(1, round(zeros * len(sizes)))).values)
        return min(narrow, _theta_at(border))

    def _per_row(self, reach: Tensor) -> Tensor:
        """Spread ranges over the rows of the matrix, `(groups, rows)`."""
        return reach.expand(self.matrix.shape[:2]) if len(reach) == 1 else self.layer.per_row(reach)


def choose_codes(
    weight: QuantizedWeight,
    layer: Layer,
    problems: Sequence[LayerProblem],
    method: Method,
    *,
    zeros: float = 0.0,
    least_scale: Tensor | None = None,
    reference: Callable[[LayerProblem], Tensor] = lambda problem: problem.weight,
) -> Tensor:
    """Choose the codes of a weight and freeze its quantizer on their grid.

    Args:
        weight: Of the bits that are wanted.
        layer: What reads it.
        problems: One per group.
        method: Chooses levels on a given grid.
        zeros: Share of zeros that is wanted, in [0, 1); 0 takes what rounding gives. Where more are asked for than the
            widest dead zone leaves, it is as wide as it may be.
        least_scale: Smallest scale of every output channel, `(C,)`; None for none.
        reference: Gives what the ranges are to suit, float32 `(rows, columns)`.

    Returns:
        The weight's values, float32 `(groups, rows, columns)`: what the frozen quantizer makes of them, bit for bit.
    """
    quantizer = weight.quantizer
    matrix = torch.stack([reference(problem) for problem in problems])
    placement = Placement.search(quantizer, layer, matrix, quantizer.bit_width(), least_scale)

    def levels_at(theta: float) -> list[Tensor]:
        return [method(problem, grid) for problem, grid in zip(problems, placement.grids(theta), strict=True)]

    theta, levels = _with_zeros(zeros, placement, levels_at)
    quantizer.theta_dz.data.fill_(theta)
    reach = placement.reach(theta)
    if quantizer.per_channel:
        quantizer.freeze_channels(reach)
    else:
        quantizer.freeze_range(float(reach[0]))
    return torch.stack([grid.values(part) for grid, part in zip(placement.grids(theta), levels, strict=True)])


def _with_zeros(
    zeros: float, placement: Placement, levels_at: Callable[[float], list[Tensor]]
) -> tuple[float, list[Tensor]]:
    """Find the theta at which so many levels are zero, between plain rounding and the collapse guard, and its levels.

    A method that makes up for what is lost resists zeros: so the dead zone is widened until they are there.
    """
    theta = placement.theta_for(zeros)
    levels = levels_at(theta)
    narrow = uniform_theta(placement.bits)
    if not zeros or (theta == narrow and _zero_share(levels) >= zeros):
        return theta, levels
    low, high = _dead_fraction(narrow), _dead_fraction(MIN_THETA)
    share_low, share_high = 0.0, 1.0
    for _ in range(ZEROS_TRIES):
        fraction, share = _dead_fraction(theta), _zero_share(levels)
        if abs(share - zeros) <= ZEROS_MARGIN:
            break
        if share < zeros:
            low, share_low = fraction, share
        else:
            high, share_high = fraction, share
        if high - low < 1e-6:
            break
        # Between both borders by the rule of false position, away from an end that would not move.
        step = (zeros - share_low) / max(share_high - share_low, 1e-9)
        theta = _theta_at(low + (high - low) * min(0.9, max(0.1, step)))
        levels = levels_at(theta)
    return theta, levels


def _zero_share(levels: Sequence[Tensor]) -> float:
    return sum(int((part == 0).sum()) for part in levels) / sum(part.numel() for part in levels)


def _dead_fraction(theta: float) -> float:
    """Give half the dead zone over the range."""
    return 1 - math.tanh(theta)


def _theta_at(dead_fraction: float) -> float:
    """Give the theta of a half dead zone over the range, as the quantizer keeps it: a float32 value."""
    return max(MIN_THETA, float32(math.atanh(1 - dead_fraction))) if dead_fraction < 1 else MIN_THETA
