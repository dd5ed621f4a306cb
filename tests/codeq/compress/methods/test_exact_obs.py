"""The greedy order against all assignments there are, and against the fixed order on a layer behind a ReLU."""

import itertools

import pytest
import torch

from codeq.compress.methods.exact_obs import exact_obs
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


def test_it_lies_between_the_best_there_is_and_rounding() -> None:
    gains = []
    for seed in range(20):
        problem, grid = problem_of(1, 5, seed), RowGrid(torch.tensor([0.8]), 1, 0, 3)
        damping = damping_of(problem)
        levels = torch.tensor(list(itertools.product(range(-3, 4), repeat=5)), dtype=torch.float32)
        best = loss(problem, levels * 0.8, damping).min()
        found, rounded = (
            loss(problem, grid.values(method(problem, grid)), damping)[0] for method in (exact_obs, rounding)
        )
        assert best <= found + 1e-12
        gains.append(float((rounded - found) / (rounded - best)) if rounded > best else 1.0)
    assert sum(gains) / len(gains) > 0.6


def test_the_last_weight_is_the_best_there_is() -> None:
    """Of two weights, the one that is closed last has no better level beside the other's."""
    grid, all_levels = RowGrid(torch.tensor([0.4]), 1, 0, 7), torch.arange(-7.0, 8.0)
    for seed in range(20):
        problem = problem_of(1, 2, seed)
        first, second = exact_obs(problem, grid)[0].float()
        damping = damping_of(problem)
        found = float(loss(problem, torch.tensor([[first, second]]) * 0.4, damping))
        change_first = torch.stack([all_levels, second.expand(15)], 1)
        change_second = torch.stack([first.expand(15), all_levels], 1)
        best = [float(loss(problem, levels * 0.4, damping).min()) for levels in (change_first, change_second)]
        assert max(best) >= found - 1e-9


@pytest.mark.parametrize("bits", [4, 3, 2])
def test_an_order_of_its_own_is_worth_it(bits: int) -> None:
    problem, held = behind_relu()
    grid = plain_grid(problem, bits)
    errors = [
        relative_error(problem, held, grid.values(method(problem, grid))) for method in (exact_obs, obq, rounding)
    ]
    assert errors[0] < 0.95 * errors[1] < 0.7 * errors[2], errors


def test_zeros_are_pruned_where_they_cost_least() -> None:
    problem, held = behind_relu()
    grid = plain_grid(problem, 4)
    levels = exact_obs(problem, grid, zeros=0.5)
    assert float((levels == 0).double().mean()) == pytest.approx(0.5, abs=0.01)
    by_size = problem.weight.abs() <= problem.weight.abs().flatten().median()
    magnitude = obq(problem, grid, is_zero=by_size)
    errors = [relative_error(problem, held, grid.values(part)) for part in (levels, magnitude)]
    assert errors[0] < 0.75 * errors[1]


def test_inputs_that_never_come() -> None:
    problem = problem_of(3, 10, 1)
    problem.moments[4] = problem.moments[:, 4] = 0
    grid = grid_of(3, 7)
    assert torch.equal(exact_obs(problem, grid)[:, 4], rounding(problem, grid)[:, 4])
    assert not exact_obs(problem, grid, zeros=0.3)[:, 4].any()  # nothing costs less
    silent = LayerProblem(problem.weight, torch.zeros_like(problem.moments))
    assert torch.equal(exact_obs(silent, grid), rounding(silent, grid))


def test_other_inputs_are_made_up_for() -> None:
    problem = problem_of(4, 12, 2)
    halved = LayerProblem(problem.weight, problem.moments / 4, problem.moments / 2)
    grid = RowGrid(torch.full((4,), 0.06), 1, 0, 127)
    nothing = loss(problem, torch.zeros_like(problem.weight))
    assert float((loss(problem, grid.values(exact_obs(halved, grid)) / 2) / nothing).max()) < 0.01
