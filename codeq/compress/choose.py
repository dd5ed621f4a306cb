"""Choose the codes of one weight: ranges by squared error, a dead zone for the zeros wanted, levels by a method."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from codeq.compress.columns import Layer
from codeq.compress.problem import LayerProblem, Method, RowGrid
from codeq.compress.ranges import row_grid, squared_error_ranges, uniform_theta
from codeq.quantizer.attach import QuantizedWeight
from codeq.quantizer.choices import MIN_THETA
from codeq.quantizer.grid import float32

ZEROS_TRIES = 8
"""The dead zone is halved in on so often: zeros end within about half a percent of what is wanted."""


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
    bits = quantizer.bit_width()
    matrix = torch.stack([reference(problem) for problem in problems])
    reach = _ranges(weight, layer, matrix, uniform_theta(bits))

    def on(theta: float) -> tuple[list[Tensor], list[RowGrid]]:
        unit = quantizer.grid_at(lambda q: 1.0, theta, bits)
        rows = _per_row(layer, _at_least(reach, least_scale, unit.multiplier * unit.quant_max + unit.offset), matrix)
        grids = [row_grid(unit, part) for part in rows]
        return [method(problem, grid) for problem, grid in zip(problems, grids, strict=True)], grids

    theta = uniform_theta(bits) if not zeros else _theta_for(zeros, uniform_theta(bits), lambda theta: on(theta)[0])
    levels, grids = on(theta)
    quantizer.theta_dz.data.fill_(theta)
    unit = quantizer.grid_at(lambda q: 1.0, theta, bits)
    reach = _at_least(reach, least_scale, unit.multiplier * unit.quant_max + unit.offset)
    if quantizer.per_channel:
        quantizer.freeze_channels(reach)
    else:
        quantizer.freeze_range(float(reach[0]))
    return torch.stack([grid.values(part) for grid, part in zip(grids, levels, strict=True)])


def _ranges(weight: QuantizedWeight, layer: Layer, matrix: Tensor, theta: float) -> Tensor:
    """The range of every output channel, `(C,)`, or of the whole weight, `(1,)`."""
    unit = weight.quantizer.grid_at(lambda q: 1.0, theta, weight.quantizer.bit_width())
    if not weight.quantizer.per_channel:
        return squared_error_ranges(matrix.reshape(1, -1), unit)
    if layer.transposed:  # an output channel of every group has one range
        return squared_error_ranges(matrix.transpose(0, 1).flatten(1), unit)
    return squared_error_ranges(matrix.flatten(0, 1), unit)


def _at_least(reach: Tensor, least_scale: Tensor | None, top_code: int) -> Tensor:
    if least_scale is None or len(least_scale) != len(reach):
        return reach
    return torch.maximum(reach, least_scale * top_code)


def _per_row(layer: Layer, reach: Tensor, matrix: Tensor) -> Tensor:
    """Spread ranges over the rows of a matrix, `(groups, rows)`."""
    return reach.expand(matrix.shape[:2]) if len(reach) == 1 else layer.per_row(reach)


def _theta_for(zeros: float, narrow: float, levels_at: Callable[[float], Sequence[Tensor]]) -> float:
    """Find the theta at which so many levels are zero, between plain rounding and the collapse guard."""

    def share(theta: float) -> float:
        levels = levels_at(theta)
        return sum(int((part == 0).sum()) for part in levels) / sum(part.numel() for part in levels)

    if share(narrow) >= zeros:
        return narrow
    low, high = 1 - math.tanh(narrow), 1 - math.tanh(MIN_THETA)  # half the dead zone over the range
    for _ in range(ZEROS_TRIES):
        middle = (low + high) / 2
        if share(_theta_at(middle)) < zeros:
            low = middle
        else:
            high = middle
    return _theta_at(high)


def _theta_at(dead_fraction: float) -> float:
    """Give the theta of a half dead zone over the range, as the quantizer keeps it: a float32 value."""
    return max(MIN_THETA, float32(math.atanh(1 - dead_fraction)))
