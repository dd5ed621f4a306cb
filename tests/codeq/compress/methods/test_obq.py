"""Second-order rounding against the same thing written down naively, and against all assignments there are."""

import itertools

import pytest
import torch
from torch import Tensor

from codeq.compress.methods import obq as module
from codeq.compress.methods.obq import obq
from codeq.compress.methods.rounding import rounding
from codeq.compress.problem import LayerProblem, RowGrid
from tests.codeq.compress.problems import (
    behind_relu,
    damping_of,
    grid_of,
    loss,
    plain_grid,
    problem_of,
    relative_error,
)


def naive(problem: LayerProblem, grid: RowGrid) -> Tensor:
    """Round column by column; after each, all open weights are solved for anew."""
    moments = problem.moments.clone()
    damping = damping_of(problem)
    moments.diagonal().add_(damping)
    order = moments.diagonal().argsort(descending=True, stable=True).tolist()
    weight = problem.weight.double()
    values, levels = torch.zeros_like(weight), torch.zeros_like(weight)
    for number, column in enumerate(order):
        done, left = order[:number], order[number:]
        shift = (weight[:, done] - values[:, done]) @ moments[done][:, left] @ torch.linalg.inv(moments[left][:, left])
        now = weight[:, left] + shift
        level = grid.levels(now[:, :1].float())
        levels[:, column] = level[:, 0].double()
        values[:, column] = grid.values(level)[:, 0].double()
    return levels


@pytest.mark.parametrize("offset", [0, 3])
@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_naive_one(seed: int, offset: int) -> None:
    problem, grid = problem_of(5, 24, seed), grid_of(5, 7, offset)
    assert torch.equal(obq(problem, grid).double(), naive(problem, grid))


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, grid = problem_of(4, 40, 0), grid_of(4, 7)
    whole = obq(problem, grid)
    monkeypatch.setattr(module, "BLOCK", 7)
    assert torch.equal(obq(problem, grid), whole)


def test_it_lies_between_the_best_there_is_and_rounding() -> None:
    gains = []
    for seed in range(20):
        problem, grid = problem_of(1, 5, seed), RowGrid(torch.tensor([0.8]), 1, 0, 3)
        damping = damping_of(problem)
        levels = torch.tensor(list(itertools.product(range(-3, 4), repeat=5)), dtype=torch.float32)
        best = loss(problem, levels * 0.8, damping).min()
        found, rounded = (loss(problem, grid.values(method(problem, grid)), damping)[0] for method in (obq, rounding))
        assert best <= found + 1e-12
        gains.append(float((rounded - found) / (rounded - best)) if rounded > best else 1.0)
    assert sum(gains) / len(gains) > 0.5  # more than half of what there is to gain


def test_inputs_that_do_not_go_together_leave_rounding() -> None:
    weight = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    problem = LayerProblem(weight, torch.diag(torch.arange(1.0, 9.0, dtype=torch.float64)))
    assert torch.equal(obq(problem, grid_of(3, 7)), rounding(problem, grid_of(3, 7)))


def test_inputs_that_never_come() -> None:
    problem = problem_of(3, 10, 1)
    problem.moments[4] = problem.moments[:, 4] = 0
    grid = grid_of(3, 7)
    assert torch.equal(obq(problem, grid)[:, 4], rounding(problem, grid)[:, 4])
    silent = LayerProblem(problem.weight, torch.zeros_like(problem.moments))
    assert torch.equal(obq(silent, grid), rounding(silent, grid))


def test_other_inputs_are_made_up_for() -> None:
    """The compressed network gives half of what the float one gave: weights twice as large answer alike."""
    problem = problem_of(4, 12, 2)
    halved = LayerProblem(problem.weight, problem.moments / 4, problem.moments / 2)
    grid = RowGrid(torch.full((4,), 0.06), 1, 0, 127)
    nothing = loss(problem, torch.zeros_like(problem.weight))
    errors = [loss(problem, grid.values(method(halved, grid)) / 2) / nothing for method in (obq, rounding)]
    assert float(errors[0].max()) < 0.01
    assert float(errors[1].min()) > 0.2


def test_moments_of_few_inputs_are_no_obstacle() -> None:
    x = torch.randn(3, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    problem = LayerProblem(torch.randn(2, 30, generator=torch.Generator().manual_seed(1)), x.T @ x / 3)
    assert obq(problem, grid_of(2, 7)).abs().max() <= 7


def test_what_is_pruned_is_made_up_for() -> None:
    problem, held = behind_relu(16, 64)
    grid, is_zero = plain_grid(problem, 8), problem.weight.abs() < 0.06
    pruned, masked = obq(problem, grid, is_zero=is_zero), obq(problem, grid).masked_fill(is_zero, 0)
    assert not pruned[is_zero].any()
    errors = [relative_error(problem, held, grid.values(levels)) for levels in (pruned, masked)]
    assert errors[0] < 0.6 * errors[1], errors
