"""Say which weights answer the compressed network's inputs as the float ones answer theirs.

With x what the layer reads in the network as it is compressed so far and y what it reads in the float network, the
mean of (v x - w y)^2 is (v - a) H (v - a)^T and a rest that no v changes, for the moments H = E[x x^T], the cross
moments C = E[x y^T] and

    a = w C^T H^-1

A method therefore rounds a, and the moments are all that it needs to know of the inputs.
"""

import torch
from torch import Tensor

from codeq.compress.problem import LayerProblem, RowGrid

DAMPING = 0.01
"""Share of the mean moment that is added to every moment: a few inputs say little of their rare combinations."""


def damped(problem: LayerProblem) -> Tensor | None:
    """Add `DAMPING` to the diagonal of the moments, float64; None where the layer reads nothing but zeros."""
    mean = float(problem.moments.diagonal().mean())
    if not mean > 0:
        return None
    moments = problem.moments.double().clone()
    moments.diagonal().add_(DAMPING * mean)
    return moments


def aligned(problem: LayerProblem, moments: Tensor) -> Tensor:
    """Solve for the weights that the layer would have were it compressed to floats, float64 `(rows, columns)`.

    Args:
        problem: With the float weights and the cross moments; without these the weights stay as they are.
        moments: Damped; the cross moments get as much.
    """
    weight = problem.weight.double()
    if problem.cross is None:
        return weight.clone()
    cross = problem.cross.double().clone()
    cross.diagonal().add_(DAMPING * float(problem.moments.diagonal().mean()))
    found: Tensor = torch.linalg.solve(moments, cross @ weight.T).T.clone()
    return found


def own_where_dead(levels: Tensor, problem: LayerProblem, grid: RowGrid, is_zero: Tensor | None = None) -> Tensor:
    """Give weights whose input never came in calibration, which says nothing about them, their own levels: int8.

    Args:
        levels: What was chosen, float32 `(rows, columns)`.
        problem, grid: What it was chosen from.
        is_zero: What is zero all the same, bool `(rows, columns)`.
    """
    own = grid.levels(problem.weight)
    if is_zero is not None:
        own = own.masked_fill(is_zero, 0.0)
    return torch.where(problem.moments.diagonal() > 0, levels, own).to(torch.int8)
