"""Choose levels by learning which way each weight is rounded, so that the layer's result changes least.

Every weight lies between two levels a <= b of the dead-zone grid. With one number V for each,

    h = clamp(1.2 sigmoid(V) - 0.1, 0, 1)       v = a + h (b - a)
    loss = (v - w) H (v - w)^T + lambda sum(1 - |2 h - 1|^beta)

Adam makes the loss small; beta falls from 20 to 2, which drives every h to 0 or 1 in the end. Source: Nagel et al.
2020, "Up or Down? Adaptive Rounding for Post-Training Quantization" (AdaRound), arXiv:2004.10568.
There the layer's result goes through its activation function first, over samples; the moments H say all about the
result itself, and nothing about the activation function. The error is counted in what plain rounding loses for each
weight of the row, so that one lambda fits all layers.

Where zeros are wanted, those whose pruning costs least are pruned first (greedy.py), and least squares says what the
others become before it is learned how these are rounded.
"""

import torch
from torch import Tensor

from codeq.compress.alignment import aligned, damped, own_where_dead
from codeq.compress.greedy import refit, round_pruned
from codeq.compress.neighbours import neighbours
from codeq.compress.problem import LayerProblem, RowGrid

ITERATIONS = 2000
LEAST_ITERATIONS = 300
WORK = 2**39
"""Multiplications for which large layers get fewer iterations: about a minute on one core."""
WARM_UP = 0.2
"""Share of the iterations without the second part of the loss."""
PULL = 3.0
"""lambda."""
LEARNING_RATE = 0.05
FIRST_BETA, LAST_BETA = 20.0, 2.0
STRETCH, MARGIN = 1.2, 0.1
"""h = STRETCH sigmoid(V) - MARGIN: zeta - gamma and -gamma of the source."""
INSIDE = 0.01
"""h begins so far from 0 and 1 at least, where it has no gradient."""


def adaround(problem: LayerProblem, grid: RowGrid, *, zeros: float = 0.0) -> Tensor:
    """Learn how weights are rounded; see `Method`.

    Args:
        problem, grid: As for any method.
        zeros: Share of zeros that is wanted.
    """
    moments = damped(problem)
    if moments is None:
        return grid.levels(problem.weight).to(torch.int8)
    target = aligned(problem)

    def learn(is_zero: Tensor) -> Tensor:
        start = refit(target, moments, is_zero)
        low, high = neighbours(start, grid)
        low, high = low.masked_fill(is_zero, 0.0), high.masked_fill(is_zero, 0.0)
        return own_where_dead(_learn(start, target, moments, grid, low, high), problem, grid, is_zero)

    return round_pruned(problem, zeros, learn)


def iterations_of(rows: int, columns: int) -> int:
    """Give the number of iterations that a layer gets."""
    return max(LEAST_ITERATIONS, min(ITERATIONS, WORK // (rows * columns**2)))


def _learn(start: Tensor, target: Tensor, moments: Tensor, grid: RowGrid, low: Tensor, high: Tensor) -> Tensor:
    """Begin at `start` and end at `low` or `high`, float32 levels. Gradients are written out: there is one product."""
    target, moments = target.float(), moments.float()
    below, gap = grid.values(low), grid.values(high) - grid.values(low)
    share = (start.float() - below) / torch.where(gap > 0, gap, torch.ones_like(gap))
    logits = torch.logit((share.clamp(INSIDE, 1 - INSIDE) + MARGIN) / STRETCH)
    nearest = below + (share > 0.5) * gap - target
    unit = ((nearest @ moments) * nearest).mean(1, keepdim=True).clamp(min=1e-30)
    optimizer = torch.optim.Adam([logits], LEARNING_RATE)
    iterations = iterations_of(*target.shape)
    for iteration in range(iterations):
        sigmoid = logits.sigmoid()
        open_share = STRETCH * sigmoid - MARGIN
        share = open_share.clamp(0, 1)
        gradient = 2 * ((below + share * gap - target) @ moments) * gap / unit
        progress = (iteration / iterations - WARM_UP) / (1 - WARM_UP)
        if progress > 0:
            beta = FIRST_BETA + progress * (LAST_BETA - FIRST_BETA)
            off = 2 * share - 1
            gradient -= PULL * 2 * beta * off.abs().pow(beta - 1) * off.sign()
        is_open = (open_share > 0) & (open_share < 1)
        logits.grad = gradient * is_open * STRETCH * sigmoid * (1 - sigmoid)
        optimizer.step()
    return torch.where(share >= 0.5, high, low)
