"""Find the two levels of a row's grid that a value lies between."""

import torch
from torch import Tensor

from codeq.compress.problem import RowGrid


def neighbours(values: Tensor, grid: RowGrid) -> tuple[Tensor, Tensor]:
    """Give the levels below and above float64 values, float32 `(rows, n)` each.

    A value on a level is between this and the next one towards larger magnitudes; beyond the top level both are the
    top level.
    """
    codes = values / grid.scale.double()[:, None]
    # Level k > 0 has the code multiplier * k + offset: how many levels the value has reached.
    reached = ((codes.abs() - grid.offset) / grid.multiplier).floor().clamp(0, grid.quant_max)
    further = (reached + 1).clamp(max=grid.quant_max)
    is_positive = codes >= 0
    return torch.where(is_positive, reached, -further).float(), torch.where(is_positive, further, -reached).float()
