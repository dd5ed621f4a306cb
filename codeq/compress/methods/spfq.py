"""Choose levels by stochastic path following, whose error is bounded before a level is chosen.

Phase one gives the weights w that answer the compressed network's inputs x_t (t-th column, over all samples) as the
float network's answer theirs. Phase two rounds them at random:

    v_t = w_t + <x_t, u> / (C |x_t|^2)      q_t = T(v_t)      u += (w_t - q_t) x_t      E[T(v)] = v

T takes one of the two neighbouring levels of the dead-zone grid, the nearer one more often. Between zero and the first
level, which a wide dead zone keeps apart, that is stochastic pruning: what is smaller than the first level c becomes
sign(v) c with probability |v| / c. T on two levels +-L, P(+) = (v / L + 1) / 2, is one-bit quantization (`spfq_sign`),
stored as a grid of 2 bits without its zero. Source: Zhang and Saab, arXiv:2412.18184 (2025), of which C = 1 without
pruning is SPFQ, Zhang and Saab 2023, arXiv:2309.10975. Everything is written with the moments H = E[x x^T] and the
cross moments, see gpfq.py. Phase one, one pass for each order r, is then a sweep of Gauss-Seidel for H w = C w_float.

The bound. Let xi_t = T(v_t) - v_t and D = diag H, L its lower triangle. Then e = w - q solves

    e_t = -xi_t - sum over s < t of H_ts e_s / (C H_tt)           e = -B xi       B = (I + D^-1 L / C)^-1

1. Given all before it, xi_t has mean 0 and two values at distance g at most, the widest gap between levels. Such a
   variable is dominated in convex order by N(0, pi g^2 / 8): with p = P(the upper one), E max(xi - k, 0) is linear
   between both values and the Gaussian's is convex, so that it is enough to compare at the threshold that a share p of
   N(0, s^2) exceeds: p (1 - p) g <= s phi(z), with Phi(-z) = p. And 4 Phi(z) Phi(-z) = 1 - (2 Phi(z) - 1)^2
   <= exp(-z^2 / 2), because the square [-z, z]^2, of probability (2 Phi(z) - 1)^2, holds the disk of radius z, of
   1 - exp(-z^2 / 2); hence s = g sqrt(pi / 8) will do. (Theorem 4.2 knows of T only |T(v) - v| <= M, and has
   pi M^2 / 2: four times as much for M = g.)
2. Convex order survives linear maps, and sums of what has mean 0 given all before it: e is dominated by
   N(0, pi g^2 / 8 B B^T).
3. exp(e^T H e) is a convex function, so that its tail is at most the Gaussian's: for K = B^T H B, s_r^2 = pi g_r^2 / 8
   of row r and t = log(1 / delta), over all rows with probability 1 - delta (Hsu, Kakade and Zhang 2012,
   arXiv:1110.2842, theorem 1)

    sum of e^T H e <= sum(s_r^2) tr K + 2 sqrt(t sum(s_r^4) |K|_F^2) + 2 t max(s_r^2) |K|

4. Beyond the top level T can only take the top level, and is not unbiased any more. What v lacks there, eta, adds
   -B eta to e: the root of its square, eta^T K eta, adds to the root of the bound. A larger C keeps v nearer to w.

It is the layer's own: of its moments, not of the worst layer of its size. beta of the theorem bounds the eigenvalues of
the same covariance in the space of samples: C^2 / (2 C - 1) pi / 8 g^2 max |x_t|^2 will do, as one step takes b to
(1 - 1 / C)^2 b + pi / 8 g^2 |x_t|^2 at most.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from codeq.compress.neighbours import neighbours
from codeq.compress.problem import LayerProblem, RowGrid

PASSES = 1
"""Sweeps of phase one: its order r."""
DELTA = 0.01
"""The bound holds with a probability of 1 - DELTA."""


@dataclass(frozen=True)
class Guarantee:
    """Holds what the theorem says of a layer and what came out, both as mean squares of the layer's result.

    Attributes:
        measured: Error of the levels against the weights of phase one.
        bound: What it exceeds with a probability of `DELTA` at most.
        clipped: Share of the weights that met the end of the grid.
    """

    measured: float
    bound: float
    clipped: float


class Stochastic(Protocol):
    """Describes `spfq` and `spfq_sign`."""

    def __call__(self, problem: LayerProblem, grid: RowGrid, *, seed: int = 0, damping: float = 1.0) -> Tensor:
        """Round at random."""
        ...


def spfq(problem: LayerProblem, grid: RowGrid, *, seed: int = 0, damping: float = 1.0) -> Tensor:
    """Round column after column at random; see `Method`.

    Args:
        problem, grid: As for any method.
        seed: Of the random numbers; the same seed gives the same levels.
        damping: C of the theorem, at least 1.
    """
    return _follow(problem, grid, seed, damping, one_bit=False)


def spfq_sign(problem: LayerProblem, grid: RowGrid, *, seed: int = 0, damping: float = 1.0) -> Tensor:
    """Round to the two outermost levels alone: one bit a weight, and no zeros; see `spfq`."""
    return _follow(problem, grid, seed, damping, one_bit=True)


def realigned(problem: LayerProblem, passes: int = PASSES) -> Tensor:
    """Phase one: the weights for the compressed network's inputs, float64 `(rows, columns)`."""
    weight = problem.weight.double()
    if problem.cross is None:
        return weight.clone()
    moments, cross = problem.moments.double(), problem.cross.double()
    alive = moments.diagonal() > 0
    lower = moments.tril() + torch.diag((~alive).double())
    found = torch.linalg.solve_triangular(lower, cross.tril() @ weight.T, upper=False)
    for _ in range(passes - 1):
        rest = cross @ weight.T - moments.triu(1) @ found
        found = torch.linalg.solve_triangular(lower, rest, upper=False)
    return torch.where(alive, found.T, weight)


def guarantee(
    problem: LayerProblem,
    grid: RowGrid,
    levels: Tensor,
    *,
    damping: float = 1.0,
    one_bit: bool = False,
    delta: float = DELTA,
) -> Guarantee:
    """Compare the levels that were chosen with the bound.

    Args:
        problem, grid, damping: What `spfq` was called with.
        levels: What it gave.
        one_bit: They are those of `spfq_sign`.
        delta: The bound may fail with this probability.
    """
    moments, weight = problem.moments.double(), realigned(problem)
    errors = weight - grid.values(levels).double()
    own = moments.diagonal()
    before = torch.where(own > 0, own, torch.inf)[:, None].reciprocal() * moments.tril(-1) / damping
    asked = weight + errors @ before.T
    top = grid.scale.double()[:, None] * (grid.multiplier * grid.quant_max + grid.offset)
    lacking = asked.clamp(-top, top) - asked
    spread = torch.linalg.inv(torch.eye(len(moments), dtype=torch.float64) + before)
    kernel = spread.T @ moments @ spread
    codes = 2 * (grid.multiplier * grid.quant_max + grid.offset) if one_bit else max(grid.multiplier, _first_code(grid))
    variance = math.pi / 8 * (grid.scale.double() * codes).square()
    often = math.log(1 / delta)
    random = float(variance.sum() * kernel.trace())
    random += 2 * math.sqrt(often * float(variance.square().sum() * kernel.square().sum()))
    random += 2 * often * float(variance.max() * torch.linalg.matrix_norm(kernel, 2))
    return Guarantee(
        measured=float(((errors @ moments) * errors).sum()),
        bound=(math.sqrt(random) + math.sqrt(float(((lacking @ kernel) * lacking).sum()))) ** 2,
        clipped=float((lacking.abs() > 1e-6 * top).double().mean()),
    )


def power(problem: LayerProblem) -> float:
    """Give the mean square of the layer's result with the weights of phase one: what errors compare with."""
    weight = realigned(problem)
    return float(((weight @ problem.moments.double()) * weight).sum())


def _first_code(grid: RowGrid) -> int:
    return grid.multiplier + grid.offset


def _follow(problem: LayerProblem, grid: RowGrid, seed: int, damping: float, *, one_bit: bool) -> Tensor:
    if not damping >= 1:
        raise ValueError(f"damping must be at least 1, found {damping!r}")
    moments = problem.moments.double()
    weight = realigned(problem)
    generator = torch.Generator().manual_seed(seed)
    levels, errors = torch.zeros_like(problem.weight), torch.zeros_like(weight)
    for column, own in enumerate(moments.diagonal().tolist()):
        value = weight[:, column]
        if own > 0:
            value = value + errors[:, :column] @ moments[column, :column] / (damping * own)
        chance = torch.rand(len(value), generator=generator, dtype=torch.float64)
        low, high = _around(value[:, None], grid, one_bit=one_bit)
        below, above = grid.values(low).double(), grid.values(high).double()
        up = (value[:, None] - below) / (above - below).clamp(min=1e-300)
        levels[:, column] = torch.where(chance[:, None] < up, high, low)[:, 0]
        errors[:, column] = weight[:, column] - grid.values(levels[:, column : column + 1])[:, 0].double()
    return levels.to(torch.int8)


def _around(value: Tensor, grid: RowGrid, *, one_bit: bool) -> tuple[Tensor, Tensor]:
    """The two levels that a value may get."""
    if one_bit:
        top = torch.full_like(value, grid.quant_max, dtype=torch.float32)
        return -top, top
    return neighbours(value, grid)
