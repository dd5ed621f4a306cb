"""Choose levels by second-order rounding: what one weight loses, those that are still open make up for.

For rows w of a layer and the moments H of what it reads, the error (w - v) H (w - v)^T is made small one column after
the other, columns of the largest moment first: after column j is rounded, with U the upper Cholesky factor of H^-1,

    e = (w_j - q(w_j)) / U_jj              w_k -= e U_jk        for all k behind j

q is the dead-zone grid, so that pruning and quantizing are one pass. Source: Frantar and Alistarh 2022, "Optimal Brain
Compression" (OBQ), arXiv:2208.11580, in the fixed order of columns and with the Cholesky factor of Frantar et al. 2023,
"GPTQ", arXiv:2210.17323, section 3. Where the compressed network gives the layer other inputs than the float one, the
weights that answer these best come first: W C^T H^-1, with C the cross moments.
"""

import torch
from torch import Tensor

from codeq.compress.alignment import DAMPING, aligned, damped, own_where_dead
from codeq.compress.problem import LayerProblem, RowGrid

BLOCK = 128
"""Columns whose updates to the columns behind the block are taken together: one matrix product instead of many."""


def obq(problem: LayerProblem, grid: RowGrid, *, is_zero: Tensor | None = None) -> Tensor:
    """Round column after column; see `Method`.

    Args:
        problem, grid: As for any method.
        is_zero: What becomes zero whatever its level, bool `(rows, columns)`.
    """
    moments = damped(problem)
    if moments is None:  # the layer reads nothing but zeros
        return grid.levels(problem.weight).to(torch.int8)
    weight = aligned(problem)
    order = moments.diagonal().argsort(descending=True, stable=True)
    factor = inverse_factor(moments[order][:, order])
    weight, levels = weight[:, order], torch.zeros_like(problem.weight)
    pruned = None if is_zero is None else is_zero[:, order]
    for start in range(0, weight.shape[1], BLOCK):
        end = min(start + BLOCK, weight.shape[1])
        errors = torch.empty(len(weight), end - start, dtype=torch.float64)
        for column in range(start, end):
            levels[:, column : column + 1] = grid.levels(weight[:, column : column + 1].float())
            if pruned is not None:
                levels[:, column].masked_fill_(pruned[:, column], 0.0)
            value = grid.values(levels[:, column : column + 1]).double()
            error = (weight[:, column : column + 1] - value) / factor[column, column]
            weight[:, column:end] -= error * factor[column, column:end]
            errors[:, column - start] = error[:, 0]
        weight[:, end:] -= errors @ factor[start:end, end:]
    found = torch.empty_like(levels)
    found[:, order] = levels
    return own_where_dead(found, problem, grid, is_zero)


def inverse_factor(moments: Tensor) -> Tensor:
    """Give the upper Cholesky factor of the inverse; more damping where rounding leaves no positive matrix."""
    damping = 0.0
    while True:
        damped = moments.clone()
        damped.diagonal().add_(damping)
        lower, failed = torch.linalg.cholesky_ex(damped)
        if not int(failed):
            upper, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
            if not int(failed):
                result: Tensor = upper
                return result
        damping = max(10 * damping, DAMPING * float(moments.diagonal().mean()))
