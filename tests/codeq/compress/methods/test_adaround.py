"""Learned rounding: every weight takes a neighbouring level, and the layer's result is nearer than by rounding."""

import pytest
import torch

from codeq.compress.methods import adaround as module
from codeq.compress.methods.adaround import ITERATIONS, LEAST_ITERATIONS, adaround, iterations_of
from codeq.compress.methods.obq import obq
from codeq.compress.methods.rounding import rounding
from codeq.compress.neighbours import neighbours
from codeq.compress.problem import LayerProblem
from tests.codeq.compress.problems import behind_relu, grid_of, plain_grid, problem_of, relative_error


def errors_of(rows: int, columns: int, bits: int) -> list[float]:
    problem, held = behind_relu(rows, columns)
    grid = plain_grid(problem, bits)
    return [relative_error(problem, held, grid.values(method(problem, grid))) for method in (adaround, obq, rounding)]


def test_it_beats_rounding_and_is_near_second_order_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ITERATIONS", 400)
    learned, second_order, rounded = errors_of(24, 80, 4)
    assert learned < 0.6 * rounded
    assert learned < 1.1 * second_order


@pytest.mark.full
@pytest.mark.parametrize("bits", [4, 3, 2])
def test_with_time_it_beats_second_order_rounding(bits: int) -> None:
    learned, second_order, _ = errors_of(64, 128, bits)
    assert learned < 0.95 * second_order


@pytest.mark.parametrize("offset", [0, 3])
def test_every_weight_takes_a_neighbouring_level(offset: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ITERATIONS", 600)
    problem, grid = problem_of(4, 16, 0), grid_of(4, 7, offset)
    levels = adaround(problem, grid)
    low, high = neighbours(problem.weight.double(), grid)
    assert torch.all((levels == low) | (levels == high))
    assert not torch.equal(levels, rounding(problem, grid))


def test_inputs_that_do_not_go_together_leave_rounding() -> None:
    weight = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    problem = LayerProblem(weight, torch.diag(torch.arange(1.0, 9.0, dtype=torch.float64)))
    assert torch.equal(adaround(problem, grid_of(3, 7)), rounding(problem, grid_of(3, 7)))


def test_zeros_are_pruned_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ITERATIONS", 600)
    problem, held = behind_relu(32, 96)
    grid = plain_grid(problem, 4)
    levels = adaround(problem, grid, zeros=0.5)
    assert float((levels == 0).double().mean()) == pytest.approx(0.5, abs=0.01)
    by_size = problem.weight.abs() <= problem.weight.abs().flatten().median()
    magnitude = obq(problem, grid, is_zero=by_size)
    assert relative_error(problem, held, grid.values(levels)) < 0.8 * relative_error(
        problem, held, grid.values(magnitude)
    )


def test_inputs_that_never_come() -> None:
    problem, grid = problem_of(3, 10, 1), grid_of(3, 7)
    problem.moments[4] = problem.moments[:, 4] = 0
    assert torch.equal(adaround(problem, grid)[:, 4], rounding(problem, grid)[:, 4])
    silent = LayerProblem(problem.weight, torch.zeros_like(problem.moments))
    assert torch.equal(adaround(silent, grid), rounding(silent, grid))


def test_large_layers_get_fewer_iterations() -> None:
    assert iterations_of(64, 128) == ITERATIONS
    assert iterations_of(320, 1152) < ITERATIONS
    assert iterations_of(4096, 4096) == LEAST_ITERATIONS
