"""Choose the range of every row of a weight by the squared error that rounding then makes.

Source: the search of Frantar and Alistarh 2022, "Optimal Brain Compression", arXiv:2208.11580, over shares of the
largest magnitude. Nothing is cut off where nothing is gained, as at 8 bits.
"""

import math

import torch
from torch import Tensor

from codeq.compress.problem import RowGrid
from codeq.quantizer.abs_range import LEAST_RANGE
from codeq.quantizer.choices import MAX_THETA
from codeq.quantizer.grid import Grid, float32

SHARES = tuple(1 - step / 50 for step in range(36))
"""They are tried: from all of the largest magnitude down to 0.3 of it."""
SEARCHED_COLUMNS = 1024
"""Of wider rows every second, third, ... value is enough to compare shares by, beside the largest."""
LARGEST = 256
"""So many values of a wide row are all compared: what is cut off is theirs, and at 8 bits it is most of the error."""


def uniform_theta(bits: int) -> float:
    """Give the theta_dz at which the dead zone is as wide as a step: plain symmetric rounding, code = level.

    Its half width is then range / (2 quant_max), and tanh(theta) = 1 - 1 / (2 quant_max).
    """
    quant_max = 2 ** (bits - 1) - 1
    # A hair less than half a step, so that no rounding of theta to float32 costs the top level.
    return float32(min(MAX_THETA, math.atanh(1 - 0.4999 / quant_max)))


def squared_error_ranges(rows: Tensor, unit: Grid, importance: Tensor | None = None) -> Tensor:
    """Find the range of every row.

    Args:
        rows: float32 `(rows, columns)`.
        unit: The grid at a range of 1.
        importance: float64 `(columns,)`, what an error of each column counts; None counts all alike.

    Returns:
        float32 `(rows,)`, positive; 1 for a row of zeros.
    """
    largest = rows.abs().amax(1)
    best = torch.full_like(largest, math.inf)
    found = largest.clone()
    searched, weight = _searched(rows, importance)
    for share in SHARES:
        reach = (largest * share).clamp(min=LEAST_RANGE)
        grid = row_grid(unit, reach)
        error = (grid.values(grid.levels(searched)) - searched).square_()
        total = error.sum(1) if weight is None else (error * weight).sum(1)
        better = total < best
        best, found = torch.where(better, total, best), torch.where(better, reach, found)
    return torch.where(largest > 0, found, torch.ones_like(found))


def _searched(rows: Tensor, importance: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Choose values of every row that shares are compared by, and what the error of each counts."""
    weight = None if importance is None else importance.float().expand_as(rows)
    stride = -(-rows.shape[1] // SEARCHED_COLUMNS)
    if stride == 1:
        return rows, weight
    top = rows.abs().topk(LARGEST, 1).indices
    rest = rows.scatter(1, top, 0.0)[:, ::stride]  # a zero has no error
    weight = torch.ones_like(rows) if weight is None else weight
    values = torch.cat([rows.gather(1, top), rest], 1)
    return values, torch.cat([weight.gather(1, top), stride * weight[:, ::stride]], 1)


def row_grid(unit: Grid, reach: Tensor) -> RowGrid:
    """Stretch the grid of range 1 to the range of every row, `(rows,)`, as `ChannelGrid.of` does."""
    top = unit.multiplier * unit.quant_max + unit.offset
    return RowGrid((reach.double() / top).float(), unit.multiplier, unit.offset, unit.quant_max)
