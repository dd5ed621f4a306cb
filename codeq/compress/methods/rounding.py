"""Choose the nearest level of every weight, whatever the layer reads."""

import torch
from torch import Tensor

from codeq.compress.problem import LayerProblem, RowGrid


def rounding(problem: LayerProblem, grid: RowGrid) -> Tensor:
    """Round every weight by itself; see `Method`."""
    return grid.levels(problem.weight).to(torch.int8)
