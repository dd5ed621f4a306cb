"""Choose levels by second-order rounding in an order of each row's own, after pruning in such an order.

What costs least is next, and those that are still open make up for it (greedy.py). Zeros that are wanted come first:
those whose pruning costs the layer least, whatever the row; then the survivors are rounded on a grid without a wide
dead zone. Source: Frantar and Alistarh 2022, "Optimal Brain Compression", arXiv:2208.11580: ExactOBS with its global
mask, then OBQ of the survivors ("compound compression").

`obq` takes the columns of all rows in one order and finds zeros by a dead zone, in a small part of the time. On a layer
of 64 x 128 behind a ReLU, this makes 12 % less error at 4 bits, and 25 % less with half the weights zero.
"""

import torch
from torch import Tensor

from codeq.compress.alignment import aligned, damped, own_where_dead
from codeq.compress.greedy import round_greedily, round_pruned
from codeq.compress.methods.obq import inverse_factor
from codeq.compress.problem import LayerProblem, RowGrid


def exact_obs(problem: LayerProblem, grid: RowGrid, *, zeros: float = 0.0) -> Tensor:
    """Prune, then round what costs least, again and again; see `Method`.

    Args:
        problem, grid: As for any method.
        zeros: Share of zeros that is wanted.
    """
    moments = damped(problem)
    if moments is None:
        return grid.levels(problem.weight).to(torch.int8)
    target = aligned(problem)
    factor = inverse_factor(moments)
    inverse = factor.T @ factor

    def choose(is_zero: Tensor) -> Tensor:
        return own_where_dead(round_greedily(target, inverse, grid, is_zero), problem, grid, is_zero)

    return round_pruned(problem, zeros, choose)
