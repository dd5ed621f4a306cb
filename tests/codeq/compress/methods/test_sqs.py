"""A table of the layer's own: few int8 values, near where the weights are, and zeros as many as wanted."""

import pytest
import torch

from codeq.compress.methods import sqs as module
from codeq.compress.methods.exact_obs import exact_obs
from codeq.compress.methods.sqs import TableGrid, fit_table, sqs
from codeq.compress.problem import LayerProblem, RowGrid
from tests.codeq.compress.problems import behind_relu, grid_of, plain_grid, problem_of, relative_error


def test_the_nearest_entry_by_hand() -> None:
    grid = TableGrid(torch.tensor([0.5]), 1, 0, 50, torch.tensor([-20.0, 0.0, 8.0, 50.0]))
    weight = torch.tensor([[-99.0, -5.1, -4.9, 1.9, 2.1, 14.4, 14.6, 99.0]])
    assert grid.levels(weight).tolist() == [[-20, -20, 0, 0, 8, 8, 50, 50]]
    assert grid.values(torch.tensor([[8.0, -20.0]])).tolist() == [[4.0, -10.0]]


def test_the_table_is_where_the_values_are(rng: torch.Generator) -> None:
    centres = torch.tensor([-90.0, -31.0, 12.0, 75.0], dtype=torch.float64)
    values = centres[torch.randint(4, (4000,), generator=rng)] + torch.randn(4000, generator=rng, dtype=torch.float64)
    assert fit_table(values, 5).tolist() == [-90, -31, 0, 12, 75]


@pytest.mark.parametrize("count", [4, 8, 16, 64])
def test_tables_hold_zero_and_no_more_than_they_may(count: int, rng: torch.Generator) -> None:
    table = fit_table(40 * torch.randn(3000, generator=rng, dtype=torch.float64).clamp(-3, 3), count)
    assert 0 in table
    assert count - 1 <= len(table) <= count
    assert torch.equal(table, table.round().unique())
    assert float(table.abs().max()) <= 127


def test_tables_of_little() -> None:
    assert fit_table(torch.zeros(0, dtype=torch.float64), 16).tolist() == [0]
    assert 5 in fit_table(torch.full((9,), 5.0, dtype=torch.float64), 4)
    assert len(fit_table(torch.zeros(9, dtype=torch.float64), 256)) == 255


@pytest.mark.parametrize("zeros", [0.0, 0.5])
def test_a_layer_has_so_many_values_and_zeros(zeros: float, monkeypatch: pytest.MonkeyPatch) -> None:
    problem, _ = behind_relu(32, 64)
    levels = sqs(problem, plain_grid(problem, 8), count=16, zeros=zeros)
    assert levels.dtype is torch.int8
    assert levels.unique().numel() <= 16
    if zeros:
        assert float((levels == 0).double().mean()) == pytest.approx(zeros, abs=0.01)
    monkeypatch.setattr(module, "fits", lambda rows, columns: False)
    fixed = sqs(problem, plain_grid(problem, 8), count=16, zeros=zeros)
    assert fixed.unique().numel() <= 16
    assert not torch.equal(fixed, levels)


def test_uneven_weights_gain_by_a_table() -> None:
    problem, held = behind_relu(32, 96)
    uneven = LayerProblem(problem.weight * problem.weight.abs() * 8, problem.moments)
    grids = plain_grid(uneven, 8), plain_grid(uneven, 4)
    levels = sqs(uneven, grids[0], count=16), exact_obs(uneven, grids[1])
    errors = [relative_error(uneven, held, grid.values(part)) for grid, part in zip(grids, levels, strict=True)]
    assert errors[0] < 0.85 * errors[1], errors


def test_a_grid_with_a_dead_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="plain codes, found multiplier 2, offset 3"):
        sqs(problem_of(2, 4, 0), grid_of(2, 7, 3))


def test_silent_layers() -> None:
    problem = problem_of(3, 8, 0)
    silent = LayerProblem(problem.weight, torch.zeros_like(problem.moments))
    assert sqs(silent, RowGrid(torch.full((3,), 0.02), 1, 0, 127), count=4).unique().numel() <= 4
