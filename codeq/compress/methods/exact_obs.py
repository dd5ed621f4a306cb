"""Choose levels by second-order rounding in an order of each row's own: next is what costs least.

The error (w - v) H (w - v)^T of a row is made small one weight after the other. With G the inverse of the moments of
those that are open,

    p = argmin (q(w_p) - w_p)^2 / G_pp       w -= (w_p - q(w_p)) / G_pp G_:p       G -= G_:p G_p: / G_pp

and p is closed. A weight that what the others lost has pushed out of the grid comes first, the farthest one before all:
later nothing would be left to make up for it. q is the dead-zone grid. Source: Frantar and Alistarh 2022, "Optimal
Brain Compression", arXiv:2208.11580, ExactOBS and OBQ, algorithm 3, whose rule for outliers is |w - q(w)| > step / 2;
inside a dead zone that much is no accident, so that it is asked of weights beyond the top level.

G is never updated as a whole: its column p is that of the first G less the p-th entries of the columns taken before,
each divided by the root of its G_pp, which is a Cholesky factorisation with pivots. A row then takes d^3 / 2
multiplications for d columns, most of them reads from memory; the fixed order of obq.py takes d^2.
"""

import torch
from torch import Tensor

from codeq.compress.alignment import aligned, damped
from codeq.compress.methods.obq import inverse_factor
from codeq.compress.problem import LayerProblem, RowGrid

MOST_READS = 2**34
"""Rows x columns^3 of a layer up to which a machine with two cores takes seconds."""
ROWS = 64
"""They are taken together."""


def fits(rows: int, columns: int) -> bool:
    """Whether a layer is small enough for an order of each row's own."""
    return rows * columns**3 <= MOST_READS


def exact_obs(problem: LayerProblem, grid: RowGrid) -> Tensor:
    """Round what costs least, again and again; see `Method`."""
    moments = damped(problem)
    if moments is None:
        return grid.levels(problem.weight).to(torch.int8)
    weight = aligned(problem, moments)
    factor = inverse_factor(moments)
    inverse = factor.T @ factor
    levels = torch.empty_like(problem.weight)
    for start in range(0, len(weight), ROWS):
        rows = slice(start, start + ROWS)
        part = RowGrid(grid.scale[rows], grid.multiplier, grid.offset, grid.quant_max)
        levels[rows] = _greedy(weight[rows].clone(), inverse, part)
    dead = problem.moments.diagonal() <= 0
    levels[:, dead] = grid.levels(problem.weight)[:, dead]  # as in obq.py
    return levels.to(torch.int8)


def _greedy(weight: Tensor, inverse: Tensor, grid: RowGrid) -> Tensor:
    count, size = weight.shape
    every = torch.arange(count)
    scale = grid.scale.double()[:, None]
    edge = scale * (grid.multiplier * grid.quant_max + grid.offset + grid.multiplier / 2)
    pivots = inverse.diagonal().repeat(count, 1)
    taken = torch.zeros(count, size, size, dtype=torch.float64)  # (row, step, column)
    is_open = torch.ones_like(weight, dtype=torch.bool)
    levels = torch.zeros(count, size)
    for step in range(size):
        near = grid.levels(weight.float())
        errors = weight - grid.values(near).double()
        cost = (errors.square() / pivots).masked_fill(~is_open, torch.inf)
        beyond = (weight.abs() - edge).masked_fill(~is_open, -torch.inf)
        farthest = beyond.max(1)
        column = torch.where(farthest.values > 0, farthest.indices, cost.argmin(1))
        levels[every, column] = near[every, column]
        taken_here = taken[every, :step, column]
        direction = inverse[column] - torch.bmm(taken_here[:, None], taken[:, :step])[:, 0]
        direction = (direction / pivots[every, column, None].sqrt()).masked_fill(~is_open, 0.0)
        weight -= direction * (errors[every, column] / pivots[every, column].sqrt())[:, None]
        taken[:, step] = direction
        is_open[every, column] = False
        pivots = torch.where(is_open, (pivots - direction.square()).clamp(min=1e-300), pivots)
    return levels
