"""Choose levels by following the path of the layer's result: each brings the sum so far nearest to the float one.

With y_t and x_t the t-th input of a layer, over all samples, in the float and in the compressed network, and w a row,

    q_t = Q(<x_t, u + w_t y_t> / |x_t|^2)            u += w_t y_t - q_t x_t

one pass over the columns, without an inverse. Q is the dead-zone grid, zeros among its levels. u is linear in the
inputs, so that their moments are enough: with H = E[x x^T] and C = E[x y^T],

    <x_t, u + w_t y_t> = sum over s <= t of w_s C_ts - sum over s < t of q_s H_ts

Source: Lybrand and Saab 2021, "A Greedy Algorithm for Quantizing Neural Networks" (GPFQ), arXiv:2010.15980, with both
networks' inputs as in Zhang, Zhou and Saab 2023, arXiv:2201.11113.
"""

import torch
from torch import Tensor

from codeq.compress.problem import LayerProblem, RowGrid


def gpfq(problem: LayerProblem, grid: RowGrid) -> Tensor:
    """Round column after column, in their order; see `Method`."""
    moments = problem.moments.double()
    cross = moments if problem.cross is None else problem.cross.double()
    wanted = problem.weight.double() @ cross.tril().T
    levels, values = torch.zeros_like(problem.weight), torch.zeros_like(wanted)
    for column, own in enumerate(moments.diagonal().tolist()):
        if own > 0:
            due = (wanted[:, column] - values[:, :column] @ moments[column, :column]) / own
        else:  # the input never comes: its weight keeps its own level
            due = problem.weight[:, column]
        levels[:, column : column + 1] = grid.levels(due[:, None].float())
        values[:, column] = grid.values(levels[:, column : column + 1])[:, 0].double()
    return levels.to(torch.int8)
