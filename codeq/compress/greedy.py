"""Close the weights of each row one after the other, in an order of the row's own: next is what costs least.

The error (w - v) H (w - v)^T of a row is kept small by those that are still open. With G the inverse of the moments of
these,

    p = argmin (q(w_p) - w_p)^2 / G_pp       w -= (w_p - q(w_p)) / G_pp G_:p       G -= G_:p G_p: / G_pp

and p is closed. q(w) = 0 prunes (ExactOBS), q the nearest level quantizes (OBQ). Source: Frantar and Alistarh 2022,
"Optimal Brain Compression", arXiv:2208.11580, algorithms 1 to 3.

G is updated once for every `BLOCK` steps, for what is then still open; in between its column p is what it was less the
p-th entries of the columns taken since, each divided by the root of its G_pp, which is a Cholesky factorisation with
pivots. A row of d columns takes d^3 / 3 multiplications, a fixed order (obq.py) d^2.
"""

from collections.abc import Callable
from dataclasses import replace
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from codeq.compress.alignment import aligned, damped
from codeq.compress.problem import LayerProblem, RowGrid

MOST_WORK = 2**37
"""Rows x columns^3 of a layer up to which this takes half a minute on one core at most, as long again with zeros."""
ELEMENTS = 2**24
"""Rows are closed together while rows x columns^2 is at most that: 128 MiB."""
BLOCK = 64
"""Steps between two updates of G."""
TRIES = 3
"""Rounding makes zeros too: what it makes is pruned less in the next try."""
TOLERANCE = 0.005
"""So many zeros more than wanted are taken."""
TINY = 1e-300
_KNOWN: WeakKeyDictionary[LayerProblem, Tensor] = WeakKeyDictionary()
"""Pruning costs of the layers that are being compressed: their ranges need them, then their levels."""


def fits(rows: int, columns: int) -> bool:
    """Say whether a layer is small enough for an order of each row's own."""
    return rows * columns**3 <= MOST_WORK


def pruning_costs(weight: Tensor, inverse: Tensor) -> Tensor:
    """Say what it costs to prune each weight, with all of its row that cost less, float64 `(rows, columns)`.

    Args:
        weight: float64 `(rows, columns)`.
        inverse: Of the damped moments, float64.

    Returns:
        Pruning those below any threshold is ExactOBS's global mask.
    """
    costs = torch.empty_like(weight)

    def cheapest(weight: Tensor, pivots: Tensor, is_open: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        loss = (weight.square() / pivots).masked_fill(~is_open, torch.inf)
        return loss.argmin(1), torch.zeros_like(weight)

    for rows in _chunks(weight):
        losses, order = _close(weight[rows], inverse, cheapest)
        # A later one may cost less than what had to go before it.
        costs[rows] = torch.empty_like(losses).scatter_(1, order, losses.cummax(1).values)
    return costs


def round_greedily(weight: Tensor, inverse: Tensor, grid: RowGrid, is_zero: Tensor | None = None) -> Tensor:
    """Round to levels, float32 `(rows, columns)`.

    A weight that what the others lost has pushed out of the grid comes before all others, the farthest one first: later
    nothing would be left to make up for it. The source asks whether |w - q(w)| > step / 2; inside a dead zone that much
    is no accident, so that it is asked of weights beyond the top level.

    Args:
        weight, inverse: As for `pruning_costs`.
        grid: Of the rows.
        is_zero: What is pruned, before anything is rounded.
    """
    result = torch.empty(weight.shape)
    is_zero = torch.zeros_like(weight, dtype=torch.bool) if is_zero is None else is_zero
    for rows in _chunks(weight):
        result[rows] = _round_rows(weight[rows], inverse, _part(grid, rows), is_zero[rows])
    return result


def _round_rows(weight: Tensor, inverse: Tensor, grid: RowGrid, is_zero: Tensor) -> Tensor:
    every = torch.arange(len(weight))
    levels = torch.zeros(weight.shape)
    edge = grid.scale.double()[:, None] * (grid.multiplier * (grid.quant_max + 0.5) + grid.offset)

    def next_one(weight: Tensor, pivots: Tensor, is_open: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        pruned = is_zero.gather(1, columns)
        near = grid.levels(weight.float()).masked_fill(pruned, 0.0)
        values = grid.values(near).double()
        beyond = edge - weight.abs()
        # Pruned ones first, then those beyond the edge, then the cheapest.
        cost = torch.where(beyond < 0, beyond, (weight - values).square() / pivots)
        place = cost.masked_fill(pruned, -torch.inf).masked_fill(~is_open, torch.inf).argmin(1)
        levels[every, columns[every, place]] = near[every, place]
        return place, values

    _close(weight, inverse, next_one)
    return levels


Next = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""Gives the place at which each row closes a weight, `(rows,)`, and what every weight would become. It gets weights,
the diagonal of G, what is open, and the columns that they are of, all `(rows, places)`."""


def _close(weight: Tensor, inverse: Tensor, next_one: Next) -> tuple[Tensor, Tensor]:
    """Close all weights; what each step cost, and its column, `(rows, steps)`."""
    count, size = weight.shape
    every = torch.arange(count)
    weight, current = weight.clone(), inverse.expand(count, size, size)
    columns = torch.arange(size).expand(count, size)
    pivots = inverse.diagonal().repeat(count, 1)
    losses, order = torch.zeros_like(weight), torch.zeros(count, size, dtype=torch.int64)
    for start in range(0, size, BLOCK):
        steps = min(BLOCK, size - start)
        taken = weight.new_zeros(count, steps, size - start)
        is_open = torch.ones_like(weight, dtype=torch.bool)
        for step in range(steps):
            place, values = next_one(weight, pivots, is_open, columns)
            root = pivots[every, place].sqrt()
            earlier = taken[every, :step, place]
            direction = current[every, place] - torch.bmm(earlier[:, None], taken[:, :step])[:, 0]
            direction = (direction / root[:, None]).masked_fill(~is_open, 0.0)
            loss = (weight[every, place] - values[every, place]) / root
            weight -= direction * loss[:, None]
            taken[:, step] = direction
            is_open[every, place] = False
            pivots = torch.where(is_open, (pivots - direction.square()).clamp(min=TINY), pivots)
            losses[:, start + step], order[:, start + step] = loss.square(), columns[every, place]
        # Only what is open goes on.
        left = is_open.nonzero()[:, 1].reshape(count, -1)
        kept = taken.gather(2, left[:, None].expand(-1, steps, -1))
        current = current[every[:, None, None], left[:, :, None], left[:, None]]
        current.baddbmm_(kept.transpose(1, 2), kept, alpha=-1)
        weight, pivots, columns = (part.gather(1, left) for part in (weight, pivots, columns))
    return losses, order


def _chunks(weight: Tensor) -> list[slice]:
    count = max(1, ELEMENTS // weight.shape[1] ** 2)
    return [slice(start, start + count) for start in range(0, len(weight), count)]


def _part(grid: RowGrid, rows: slice) -> RowGrid:
    return replace(grid, scale=grid.scale[rows])


def round_pruned(problem: LayerProblem, zeros: float, round_rest: Callable[[Tensor], Tensor]) -> Tensor:
    """Prune so much that with the zeros that rounding makes there are as many as wanted.

    Args:
        problem: Of which inputs are known.
        zeros: Share of zeros that is wanted; 0 prunes nothing.
        round_rest: Gives levels from what is pruned, bool `(rows, columns)`.
    """
    if not zeros:
        return round_rest(torch.zeros_like(problem.weight, dtype=torch.bool))
    costs, share = _costs_of(problem), zeros
    for _ in range(TRIES):
        is_zero = _cheapest(costs, share)
        levels = round_rest(is_zero)
        excess = float((levels == 0).double().mean()) - zeros
        if excess < TOLERANCE or not is_zero.any():
            break
        share = max(0.0, share - excess)
    return levels


def pruned(problem: LayerProblem, zeros: float) -> Tensor:
    """Give the weights of a layer whose cheapest share is pruned, the others refitted, float32 `(rows, columns)`."""
    moments = damped(problem)
    if moments is None:
        return problem.weight
    return refit(aligned(problem), moments, _cheapest(_costs_of(problem), zeros)).float()


def _costs_of(problem: LayerProblem) -> Tensor:
    """The pruning costs of a layer's aligned weights, computed once."""
    if problem not in _KNOWN:
        moments = damped(problem)
        assert moments is not None
        _KNOWN[problem] = pruning_costs(aligned(problem), torch.linalg.inv(moments))
    return _KNOWN[problem]


def _cheapest(costs: Tensor, share: float) -> Tensor:
    count = round(share * costs.numel())
    return costs <= costs.flatten().kthvalue(count).values if count else torch.zeros_like(costs, dtype=torch.bool)


def refit(target: Tensor, moments: Tensor, is_zero: Tensor) -> Tensor:
    """Give the least-squares weights of each row whose zeros are given, float64 `(rows, columns)`."""
    found = target.clone()
    for row in is_zero.any(1).nonzero()[:, 0]:
        zero = is_zero[row]
        kept = ~zero
        lost = moments[kept][:, zero] @ target[row, zero]
        found[row, kept] += torch.linalg.solve(moments[kept][:, kept], lost)
        found[row, zero] = 0.0
    return found
