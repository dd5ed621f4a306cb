"""Stochastic path following: the walk over samples, no bias, and an error that stays under its bound."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from codeq.compress.methods import spfq as module
from codeq.compress.methods.rounding import rounding
from codeq.compress.methods.spfq import guarantee, realigned, spfq, spfq_sign
from codeq.compress.problem import LayerProblem, RowGrid
from tests.codeq.compress.problems import behind_relu, grid_of, loss, plain_grid, problem_of, samples_of


def walked(x: Tensor, y: Tensor, weight: Tensor, grid: RowGrid, seed: int, damping: float) -> tuple[Tensor, int]:
    """Both phases as they are written, over samples, with the same random numbers; how often the grid was left."""
    weight = weight.double()
    so_far = torch.zeros(len(weight), len(x), dtype=torch.float64)
    aligned = torch.zeros_like(weight)
    for column in range(weight.shape[1]):
        so_far += weight[:, column, None] * y[:, column]
        aligned[:, column] = so_far @ x[:, column] / x[:, column].square().sum()
        so_far -= aligned[:, column, None] * x[:, column]
    generator = torch.Generator().manual_seed(seed)
    every = torch.arange(-grid.quant_max, grid.quant_max + 1).float()
    so_far = torch.zeros(len(weight), len(x), dtype=torch.float64)
    levels = torch.zeros(weight.shape)
    clipped = 0
    for column in range(weight.shape[1]):
        due = aligned[:, column] + so_far @ x[:, column] / (damping * x[:, column].square().sum())
        chance = torch.rand(len(weight), generator=generator, dtype=torch.float64)
        for row, value in enumerate(due.tolist()):
            own = RowGrid(grid.scale[row : row + 1], grid.multiplier, grid.offset, grid.quant_max)
            places = own.values(every[None])[0].double().tolist()
            below = max((place for place in places if place <= value), default=places[0])
            above = min((place for place in places if place > value), default=places[-1])
            clipped += abs(value) > places[-1]
            share = (value - below) / (above - below) if above > below else 0.0
            levels[row, column] = every[places.index(above if float(chance[row]) < share else below)]
        error = aligned[:, column] - grid.values(levels[:, column : column + 1])[:, 0].double()
        so_far += error[:, None] * x[:, column]
    return levels, clipped


@pytest.mark.parametrize("damping", [1.0, 2.5])
@pytest.mark.parametrize("moved", [0.0, 0.7])
@pytest.mark.parametrize("offset", [0, 3])
def test_it_is_the_walk_over_samples(offset: int, moved: float, damping: float) -> None:
    grid = grid_of(5, 7, offset)
    x, y, weight = samples_of(5, 16, 1, samples=50, moved=moved)
    problem = problem_of(5, 16, 1, samples=50, moved=moved)
    levels = spfq(problem, grid, seed=3, damping=damping)
    expected, clipped = walked(x, y, weight, grid, 3, damping)
    assert levels.dtype is torch.int8
    assert torch.equal(levels.float(), expected)
    assert guarantee(problem, grid, levels, damping=damping).clipped == pytest.approx(clipped / (5 * 16))


def test_more_passes_come_nearer_to_least_squares() -> None:
    problem = problem_of(4, 12, 0, moved=0.7)
    assert problem.cross is not None
    best = torch.linalg.solve(problem.moments, problem.cross @ problem.weight.double().T).T
    away = [float((realigned(problem, passes) - best).norm()) for passes in (1, 3, 2000)]
    assert away[0] > away[1] > away[2]
    assert away[2] < 1e-6


@pytest.mark.parametrize(("method", "offset"), [(spfq, 0), (spfq, 3), (spfq_sign, 0)])
def test_one_weight_is_rounded_without_bias(method: module.Stochastic, offset: int) -> None:
    """E[T(v)] = v, between any two levels, zero and the first one of a dead zone included."""
    values = torch.linspace(-0.95, 0.95, 39)
    grid = RowGrid(torch.full((39,), 2 / (6 + offset) if offset else 1 / 3), 2 if offset else 1, offset, 3)
    problem = LayerProblem(values[:, None], torch.ones(1, 1, dtype=torch.float64))
    found = torch.stack([grid.values(method(problem, grid, seed=seed))[:, 0] for seed in range(2000)])
    widest = 2.0 if method is spfq_sign else float(grid.scale[0]) * (2 + offset if offset else 1)
    assert float((found.mean(0) - values).abs().max()) < 4 * widest / 2 / math.sqrt(2000)


def test_a_layer_is_rounded_without_bias() -> None:
    problem, grid = problem_of(3, 8, 0), RowGrid(torch.full((3,), 0.1), 1, 0, 127)
    found = torch.stack([grid.values(spfq(problem, grid, seed=seed)) for seed in range(400)])
    assert float((found.mean(0) - problem.weight).abs().max()) < 5 * float(found.std(0).max()) / math.sqrt(400)


def test_one_bit_has_two_levels() -> None:
    problem = problem_of(4, 30, 0)
    assert spfq_sign(problem, grid_of(4, 1)).unique().tolist() == [-1, 1]


@given(
    columns=st.integers(1, 24),
    seed=st.integers(0, 2**16),
    offset=st.sampled_from([-1, 0, 3]),
    quant_max=st.sampled_from([1, 3, 7, 127]),
    damping=st.sampled_from([1.0, 1.5, 4.0]),
    moved=st.sampled_from([0.0, 0.5]),
)
def test_the_error_stays_under_its_bound(
    columns: int, seed: int, offset: int, quant_max: int, damping: float, moved: float
) -> None:
    problem = problem_of(3, columns, seed, samples=columns + 3, moved=moved)
    grid = grid_of(3, quant_max, offset)
    for draw in range(2):
        levels = spfq(problem, grid, seed=draw, damping=damping)
        # One failure in ten thousand million is none that hypothesis will find.
        found = guarantee(problem, grid, levels, damping=damping, delta=1e-10)
        assert 0 <= found.measured <= found.bound
        wanted = LayerProblem(realigned(problem).float(), problem.moments)
        assert found.measured == pytest.approx(float(loss(wanted, grid.values(levels)).sum()), rel=1e-3, abs=1e-6)


def test_the_bound_is_near() -> None:
    """It is no hundred times what comes out."""
    problem, _ = behind_relu(16, 48)
    grid = plain_grid(problem, 8)
    wide = RowGrid(grid.scale * 1.5, grid.multiplier, grid.offset, grid.quant_max)
    found = [guarantee(problem, wide, spfq(problem, wide, seed=seed)) for seed in range(20)]
    assert all(one.clipped == 0 for one in found)
    assert max(one.measured for one in found) < found[0].bound < 5 * max(one.measured for one in found)


def test_one_bit_has_a_bound_too() -> None:
    problem, _ = behind_relu(16, 48)
    grid = RowGrid(problem.weight.abs().amax(1), 1, 0, 1)
    found = guarantee(problem, grid, spfq_sign(problem, grid, damping=8.0), damping=8.0, one_bit=True)
    assert 0 < found.measured < found.bound


def test_seeds_are_what_differs() -> None:
    problem, grid = problem_of(4, 20, 0), grid_of(4, 7)
    assert torch.equal(spfq(problem, grid, seed=1), spfq(problem, grid, seed=1))
    assert not torch.equal(spfq(problem, grid, seed=1), spfq(problem, grid, seed=2))


def test_inputs_that_never_come_are_rounded_near() -> None:
    problem, grid = problem_of(3, 10, 1, moved=0.5), grid_of(3, 7)
    assert problem.cross is not None
    for moments in (problem.moments, problem.cross):
        moments[4] = moments[:, 4] = 0
    levels = spfq(problem, grid)
    assert float((levels[:, 4] - rounding(problem, grid)[:, 4]).abs().max()) <= 1
    assert guarantee(problem, grid, levels).measured < math.inf


def test_too_small_a_constant_is_refused() -> None:
    with pytest.raises(ValueError, match=r"damping must be at least 1, found 0\.5"):
        spfq(problem_of(1, 2, 0), grid_of(1, 3), damping=0.5)
