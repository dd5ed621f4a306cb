"""Path following with moments is the walk over samples."""

import pytest
import torch
from torch import Tensor

from codeq.compress.methods.gpfq import gpfq
from codeq.compress.methods.rounding import rounding
from codeq.compress.problem import LayerProblem, RowGrid
from tests.codeq.compress.problems import behind_relu, grid_of, plain_grid, problem_of, relative_error, samples_of


def walked(x: Tensor, y: Tensor, weight: Tensor, grid: RowGrid) -> Tensor:
    """The recursion as it is written, with the sum so far of every row over all samples."""
    weight = weight.double()
    so_far = torch.zeros(len(weight), len(x), dtype=torch.float64)
    levels = torch.zeros(weight.shape)
    for column in range(weight.shape[1]):
        so_far += weight[:, column, None] * y[:, column]
        due = so_far @ x[:, column] / x[:, column].square().sum()
        levels[:, column] = grid.levels(due[:, None].float())[:, 0]
        so_far -= grid.values(levels[:, column : column + 1]).double() * x[:, column]
    return levels


@pytest.mark.parametrize("moved", [0.0, 0.7])
@pytest.mark.parametrize("offset", [0, 3])
@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_walk_over_samples(seed: int, offset: int, moved: float) -> None:
    grid = grid_of(6, 7, offset)
    x, y, weight = samples_of(6, 20, seed, samples=50, moved=moved)
    levels = gpfq(problem_of(6, 20, seed, samples=50, moved=moved), grid)
    assert levels.dtype is torch.int8
    assert torch.equal(levels.float(), walked(x, y, weight, grid))


@pytest.mark.parametrize("bits", [4, 3, 2])
def test_it_beats_rounding(bits: int) -> None:
    problem, held = behind_relu()
    grid = plain_grid(problem, bits)
    errors = [relative_error(problem, held, grid.values(method(problem, grid))) for method in (gpfq, rounding)]
    assert errors[0] < 0.75 * errors[1]


def test_inputs_that_never_come() -> None:
    problem, grid = problem_of(3, 10, 1), grid_of(3, 7)
    problem.moments[4] = problem.moments[:, 4] = 0
    assert torch.equal(gpfq(problem, grid)[:, 4], rounding(problem, grid)[:, 4])
    silent = LayerProblem(problem.weight, torch.zeros_like(problem.moments))
    assert torch.equal(gpfq(silent, grid), rounding(silent, grid))
