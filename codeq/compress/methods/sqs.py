"""Choose levels from a table of the layer's own: a spike at zero and the means of a mixture, on int8 multiples.

    w / scale  ~  spike at 0  or  sum over k of pi_k N(mu_k, sigma^2)

The table holds 0 and 2^bits - 1 means, rounded to integers of at most 127 in magnitude, so that runtimes read an
ordinary int8 weight and packed storage keeps an index into the table. Source: "SQS: Bayesian DNN Compression through
Sparse Quantized Sub-distributions", arXiv:2510.08999: spike-and-slab prior, codebook per layer by k-means and mixture,
one threshold over all keep-probabilities. There these are learned in 200 epochs. Here is no training, and what
training knows of the loss the moments of the layer's inputs say:

- the spike takes the weights whose pruning costs the layer least (greedy.py);
- the mixture is fitted to what is left, once pruned, by expectation and maximisation from quantiles;
- each weight takes the nearest mean, in an order of its row's own, and those still open make up for what it loses.

All rows share the table; each has its range, so that they are alike. Weights with zeros between and few large values
gain, those that fill their range evenly do not: a grid costs nothing, a table 2^bits bytes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from codeq.compress.alignment import aligned, damped, own_where_dead
from codeq.compress.greedy import fits, refit, round_greedily, round_pruned
from codeq.compress.methods.obq import inverse_factor, obq
from codeq.compress.problem import LayerProblem, RowGrid

SWEEPS = 30
"""Of expectation and maximisation."""
SAMPLES = 2**16
"""So many values are enough to fit a mixture to."""
SPREAD = 0.5
"""sigma of every component over the mean distance between means; fixed, as in the source."""


@dataclass(frozen=True, eq=False)
class TableGrid(RowGrid):
    """Holds a table of codes instead of evenly spaced ones: its levels are the codes themselves.

    Attributes:
        table: float32, ascending integers, 0 among them.
    """

    table: Tensor

    def levels(self, values: Tensor) -> Tensor:
        """Give the nearest code in the table."""
        codes = (values.double() / self.scale.double()[:, None]).float().contiguous()
        return self.table[torch.bucketize(codes, (self.table[1:] + self.table[:-1]) / 2)]


def sqs(problem: LayerProblem, grid: RowGrid, *, count: int = 16, zeros: float = 0.0) -> Tensor:
    """Fit a table and choose from it; see `Method`.

    Args:
        problem: As for any method.
        grid: Of 8 bits, evenly spaced.
        count: Levels of the table, its zero among them.
        zeros: Share of zeros that is wanted.
    """
    if (grid.multiplier, grid.offset) != (1, 0):
        raise ValueError(f"expected a grid of plain codes, found multiplier {grid.multiplier}, offset {grid.offset}")
    moments = damped(problem)
    if moments is None:
        return _on_table(grid, fit_table(_codes(problem.weight.double(), grid), count)).levels(problem.weight).char()
    target = aligned(problem)
    factor = inverse_factor(moments)
    inverse = factor.T @ factor
    small = fits(*target.shape)

    def choose(is_zero: Tensor) -> Tensor:
        rest = refit(target, moments, is_zero) if zeros else target
        on = _on_table(grid, fit_table(_codes(rest, grid)[~is_zero], count))
        if small:
            return own_where_dead(round_greedily(target, inverse, on, is_zero), problem, on, is_zero)
        return obq(LayerProblem(rest.float(), problem.moments), on, is_zero=is_zero)

    return round_pruned(problem, zeros, choose)


def fit_table(codes: Tensor, count: int) -> Tensor:
    """Fit means to values.

    Args:
        codes: float64, any shape, weights over their scale, in [-127, 127].
        count: Entries of the table.

    Returns:
        At most `count` ascending integers, 0 among them, float32.
    """
    if count >= 255:
        return torch.arange(-127.0, 128.0)
    values = codes.flatten()
    values = values[:: max(1, -(-len(values) // SAMPLES))]
    if not len(values):
        return torch.zeros(1)
    # Between quantiles, which leave the tails out, and even distances, which leave the middle out.
    ordered = values.sort().values
    even = torch.linspace(float(ordered[0]), float(ordered[-1]), count - 1, dtype=torch.float64)
    quantiles = ordered[torch.linspace(0, len(ordered) - 1, count - 1).round().long()]
    means = torch.cat([(even + quantiles) / 2, even.new_zeros(1)])  # the last one stays where it is
    shares = torch.full_like(means, 1 / count)
    width = SPREAD * max(1.0, float(ordered[-1] - ordered[0]) / count)
    for sweep in range(SWEEPS):
        # It cools, so that in the end every value belongs to one mean, as in the source.
        sharp = width * max(0.1, 1 - sweep / SWEEPS)
        logits = shares.clamp(min=1e-12).log() - (values[:, None] - means).square() / (2 * sharp**2)
        belongs = logits.softmax(1)
        weight = belongs.sum(0)
        means[:-1] = torch.where(weight > 1e-9, belongs.T @ values / weight.clamp(min=1e-9), means)[:-1]
        shares = weight / len(values)
    return means.round().clamp(-127, 127).unique().float()


def _codes(weight: Tensor, grid: RowGrid) -> Tensor:
    return (weight / grid.scale.double()[:, None]).clamp(-127, 127)


def _on_table(grid: RowGrid, table: Tensor) -> TableGrid:
    return TableGrid(grid.scale, 1, 0, max(1, int(table.abs().max())), table)
