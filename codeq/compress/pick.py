"""Pick for one layer what its method needs: the grid it is given, who makes the zeros, and what is too large for it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from codeq.compress.greedy import fits, pruned
from codeq.compress.methods.adaround import adaround
from codeq.compress.methods.exact_obs import exact_obs
from codeq.compress.methods.gpfq import gpfq
from codeq.compress.methods.obq import obq
from codeq.compress.methods.rounding import rounding
from codeq.compress.methods.spfq import DELTA, guarantee, power, spfq, spfq_sign
from codeq.compress.methods.sqs import sqs
from codeq.compress.problem import LayerProblem, Method, RowGrid

METHODS: Mapping[str, Callable[..., Tensor]] = {
    "rounding": rounding,
    "obq": obq,
    "exact_obs": exact_obs,
    "gpfq": gpfq,
    "spfq": spfq,
    "spfq_sign": spfq_sign,
    "adaround": adaround,
    "sqs": sqs,
}
PRUNING = frozenset({"exact_obs", "adaround", "sqs"})
"""They make the zeros that are wanted themselves; for the others the dead zone is widened."""
TABLE_BITS = 8
"""Of the codes that a table's entries are."""
SIGN_BITS = 2
"""Of the smallest grid, -1, 0 and 1, of which one bit is the two ends."""


@dataclass(frozen=True)
class Pick:
    """Says how the codes of one layer are chosen.

    Attributes:
        name: The method's, or that of what took its place.
        method: On the grid.
        bits: Of the grid.
        index_bits: That tell its levels apart.
        zeros: Share of zeros that is left to the dead zone.
        reference: Gives the weights that the grid's ranges are to suit.
        note: Says for the report what is known once the method has run.
    """

    name: str
    method: Method
    bits: int
    index_bits: int
    zeros: float
    reference: Callable[[LayerProblem], Tensor] = lambda problem: problem.weight
    note: Callable[[], str] = lambda: ""


def pick(name: str, shape: tuple[int, ...], *, bits: int, zeros: float, seed: int) -> Pick:
    """Pick what chooses the codes of a layer.

    Args:
        name: One of `METHODS`.
        shape: Groups, rows and columns of the layer.
        bits: Of a level.
        zeros: Share of zeros that is wanted.
        seed: Of random numbers.

    Returns:
        `obq` instead of what orders the columns of each row, where the layer is too large for that, and of what has a
        table for each group.
    """
    groups, rows, columns = shape
    ordered = name == "exact_obs" or (name in PRUNING and zeros > 0)
    if (ordered and not fits(rows, columns)) or (name == "sqs" and groups > 1):
        name = "obq"
    method = METHODS[name]
    if name in PRUNING:
        # What is left grows where much is pruned, and the ranges with it.
        reference = partial(pruned, zeros=zeros) if zeros else Pick.reference
        if name == "sqs":
            return Pick(name, partial(method, count=2**bits, zeros=zeros), TABLE_BITS, bits, 0.0, reference)
        return Pick(name, partial(method, zeros=zeros), bits, bits, 0.0, reference)
    if name == "spfq_sign":
        bounded = _Bounded(partial(method, seed=seed), groups, one_bit=True)
        return Pick(name, bounded, SIGN_BITS, 1, 0.0, note=bounded.note)
    if name == "spfq":
        bounded = _Bounded(partial(method, seed=seed), groups, one_bit=False)
        return Pick(name, bounded, bits, bits, zeros, note=bounded.note)
    return Pick(name, method, bits, bits, zeros)


class _Bounded:
    """Keeps what a stochastic method has chosen last for every group, to hold it against its bound."""

    def __init__(self, method: Method, groups: int, *, one_bit: bool) -> None:
        self.method, self.groups, self.one_bit = method, groups, one_bit
        self.last: list[tuple[LayerProblem, RowGrid, Tensor]] = []

    def __call__(self, problem: LayerProblem, grid: RowGrid) -> Tensor:
        levels = self.method(problem, grid)
        self.last = [*self.last, (problem, grid, levels)][-self.groups :]
        return levels

    def note(self) -> str:
        """Say error and bound as shares of the layer's result."""
        found = [guarantee(*last, one_bit=self.one_bit, delta=DELTA / self.groups) for last in self.last]
        total = sum(power(problem) for problem, _, _ in self.last)
        if not total > 0:
            return ""
        error, bound = (sum(values) / total for values in zip(*((g.measured, g.bound) for g in found), strict=True))
        clipped = sum(g.clipped for g in found) / len(found)
        return f"error {100 * error:.2g}%, bound {100 * bound:.2g}% ({1 - DELTA:.0%} probable), {clipped:.1%} clipped"
