"""Closing weights in an order of each row's own, against the same with an inverse computed anew at every step."""

import pytest
import torch
from torch import Tensor

from codeq.compress import greedy
from codeq.compress.greedy import fits, pruned, pruning_costs, refit, round_greedily, round_pruned
from codeq.compress.problem import LayerProblem, RowGrid
from tests.codeq.compress.problems import grid_of, loss, problem_of


def naive(problem: LayerProblem, grid: RowGrid, is_zero: Tensor) -> Tensor:
    """Row by row; what is open is the least-squares answer to what is closed, solved for anew."""
    levels = torch.zeros_like(problem.weight)
    top = grid.multiplier * grid.quant_max + grid.offset + grid.multiplier / 2
    for row, weight in enumerate(problem.weight.double()):
        own = RowGrid(grid.scale[row : row + 1], grid.multiplier, grid.offset, grid.quant_max)
        values, closed = torch.zeros_like(weight), is_zero[row].nonzero()[:, 0].tolist()
        while len(closed) < len(weight):
            left = [column for column in range(len(weight)) if column not in closed]
            inverse = torch.linalg.inv(problem.moments[left][:, left])
            shift = inverse @ problem.moments[left][:, closed] @ (weight[closed] - values[closed])
            now = weight[left] + shift
            level = own.levels(now[None].float())[0]
            error = (now - own.values(level[None])[0].double()).square() / inverse.diagonal()
            beyond = now.abs() / float(own.scale) - top
            best = int(beyond.argmax()) if float(beyond.max()) > 0 else int(error.argmin())
            levels[row, left[best]] = level[best]
            values[left[best]] = float(own.values(level[None])[0, best])
            closed.append(left[best])
    return levels


def inverse_of(problem: LayerProblem) -> Tensor:
    return torch.linalg.inv(problem.moments)


@pytest.mark.parametrize("offset", [0, 3])
@pytest.mark.parametrize("share", [0.0, 0.4])
@pytest.mark.parametrize(("seed", "block"), [(0, 64), (1, 14), (2, 5), (3, 1)])
def test_rounding_is_the_naive_one(
    seed: int, block: int, share: float, offset: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(greedy, "BLOCK", block)
    problem, grid = problem_of(5, 14, seed), grid_of(5, 3, offset)  # ranges so narrow that weights leave them
    is_zero = torch.rand(5, 14, generator=torch.Generator().manual_seed(seed)) < share
    levels = round_greedily(problem.weight.double(), inverse_of(problem), grid, is_zero)
    assert torch.equal(levels, naive(problem, grid, is_zero))
    assert not levels[is_zero].any()


def test_what_leaves_the_grid_comes_first() -> None:
    """The second weight is exact, and its turn would be first; the first one is far outside and must be made up for."""
    moments = torch.tensor([[1.0, 0.9], [0.9, 1.0]], dtype=torch.float64)
    grid = RowGrid(torch.tensor([1.0]), 1, 0, 3)
    problem = LayerProblem(torch.tensor([[4.0, 1.0]]), moments)
    levels = round_greedily(problem.weight.double(), inverse_of(problem), grid)
    assert levels.tolist() == [[3.0, 2.0]]


def test_chunks_and_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, grid = problem_of(7, 12, 0), grid_of(7, 7)
    weight, inverse = problem.weight.double(), inverse_of(problem)
    levels, costs = round_greedily(weight, inverse, grid), pruning_costs(weight, inverse)
    monkeypatch.setattr(greedy, "ELEMENTS", 3 * 12**2)
    monkeypatch.setattr(greedy, "BLOCK", 5)
    assert torch.equal(round_greedily(weight, inverse, grid), levels)
    assert torch.allclose(pruning_costs(weight, inverse), costs)


def test_pruning_costs_are_what_the_layer_loses() -> None:
    """Of a row, those below any threshold lose what their costs add up to, once the others are refitted."""
    problem = problem_of(30, 10, 1)
    weight = problem.weight.double()
    costs = pruning_costs(weight, inverse_of(problem))
    for limit in costs.flatten().quantile(torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)):
        is_zero = costs <= limit
        lost = loss(problem, refit(weight, problem.moments, is_zero))
        # Costs only rise along a row: some are put higher than they are.
        assert torch.all(lost <= costs.masked_fill(~is_zero, 0).sum(1) * (1 + 1e-9))
    first = costs <= costs.amin(1, keepdim=True)
    alone = first.sum(1) == 1
    assert int(alone.sum()) > 10
    every = torch.stack([loss(problem, refit(weight, problem.moments, one)) for one in _singles(30, 10)])
    assert torch.allclose(every.min(0).values[alone], costs.amin(1)[alone])
    assert torch.allclose(loss(problem, refit(weight, problem.moments, first))[alone], costs.amin(1)[alone])


def _singles(rows: int, columns: int) -> list[Tensor]:
    return [(torch.arange(columns) == column).expand(rows, -1) for column in range(columns)]


def test_refitted_weights_are_least_squares() -> None:
    problem = problem_of(3, 8, 2)
    is_zero = torch.rand(3, 8, generator=torch.Generator().manual_seed(1)) < 0.5
    found = refit(problem.weight.double(), problem.moments, is_zero)
    assert not found[is_zero].any()
    slope = (found - problem.weight.double()) @ problem.moments
    assert float(slope[~is_zero].abs().max()) < 1e-9


@pytest.mark.parametrize("wanted", [0.1, 0.4, 0.7])
def test_zeros_are_as_many_as_wanted(wanted: float) -> None:
    problem, grid = problem_of(20, 40, 0), grid_of(20, 2)
    weight, inverse = problem.weight.double(), inverse_of(problem)
    free = float((round_greedily(weight, inverse, grid) == 0).double().mean())
    levels = round_pruned(problem, wanted, lambda mask: round_greedily(weight, inverse, grid, mask))
    found = float((levels == 0).double().mean())
    assert wanted - 0.01 <= found <= max(free, wanted) + 0.05


def test_pruned_weights_are_what_levels_are_chosen_of() -> None:
    problem = problem_of(6, 20, 0)
    weight = pruned(problem, 0.6)
    assert weight.dtype is torch.float32
    assert float((weight == 0).double().mean()) == pytest.approx(0.6, abs=0.01)
    fine = RowGrid(torch.full((6,), 0.05), 1, 0, 127)
    levels = round_greedily(problem.weight.double(), inverse_of(problem), fine, weight == 0)
    assert float((fine.values(levels) - weight).abs().median()) < 0.1
    assert torch.equal(pruned(LayerProblem(problem.weight, torch.zeros(20, 20)), 0.6), problem.weight)


def test_what_is_too_large_is_known_before() -> None:
    assert fits(64, 576)
    assert not fits(512, 4608)
