"""Divide a budget among the weights of a network: the choice of each, so that the outputs lose least in all.

    minimise  sum over weights of loss(choice)      such that  sum of cost(choice) <= what the budget leaves

by dynamic programming over a cost cut into BUCKETS parts. Source: Frantar and Alistarh 2022, "SPDY",
arXiv:2201.13096, section 3, with squared noise in place of its learned sensitivities.
"""

import math
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from codeq.compress.report import BudgetOutcome, FrontierPoint
from codeq.compress.sensitivity import GridChoice, Sensitivity
from codeq.cost import FLOAT_BITS
from codeq.errors import CompressError
from codeq.quantizer.power import Power
from codeq.training.budget import Budget

BUCKETS = 4_000
FRONTIER_POINTS = 9


class Allocation:
    """Chooses for weight after weight, and goes by what the earlier ones have really cost.

    Args:
        budget: What the network may cost.
        sensitivities: Of every weight that has a choice, by name.
        macs: Multiply-adds of each of them for one input; read for "bops" alone.
        fixed: What the rest of the network costs, in the budget's terms times `unit`.
        unit: What a cost is divided by to be in the budget's terms: all entries, or the float network's bit operations.

    Raises:
        CompressError: The budget is out of reach.
    """

    def __init__(
        self,
        budget: Budget,
        sensitivities: Mapping[str, Sensitivity],
        macs: Mapping[str, int],
        *,
        fixed: float = 0.0,
        unit: float = 1.0,
    ) -> None:
        self.budget, self.macs, self.fixed, self.unit = budget, macs, fixed, unit
        self.open = dict(sensitivities)
        self.numels = {name: item.numel for name, item in sensitivities.items()}
        self.costs: dict[str, float] = {}
        least = self._extreme(min)
        total = self._in_terms(least)
        # What the message says can be done is a rounded number: whoever asks for that gets it.
        said = budget.format(budget.target) == budget.format(total)
        if self._remaining(budget.target) < least * (1 - 1e-9) and not said:
            loss = sum(item.loss(self._cheapest(item)) for item in self.open.values())
            most, ask = ("most", "at most") if budget.kind == "sparsity" else ("least", "at least")
            raise CompressError(
                f"{budget} is out of reach: the {most} that can be done here is {budget.format(total)}, with about "
                f"{Power(1.0, loss).decibels:.1f} dB of the outputs' signal left as predicted, which is low where "
                f"zeros are many; ask for {ask} that"
            )

    def choose(self, name: str) -> GridChoice:
        """Choose for one weight, with what is left for it and all that come after."""
        return self._solve(self._remaining(self.budget.target))[name]

    def spend(self, name: str, bits: int, sparsity: float, entropy_bytes: float) -> None:
        """Take note of what a weight has become; the last word counts."""
        self.open.pop(name, None)
        self.costs[name] = self._cost_of(name, self.numels[name], bits, sparsity, entropy_bytes)

    @property
    def spent(self) -> float:
        """Add up what the decided weights cost."""
        return sum(self.costs.values())

    def frontier(self) -> tuple[FrontierPoint, ...]:
        """Predict what other budgets of this kind would leave, from the smallest to one that asks for nothing."""
        low, high = self._extreme(min), self._extreme(max)
        points = []
        for number in range(FRONTIER_POINTS):
            limit = low + (high - low) * (number / (FRONTIER_POINTS - 1)) ** 2
            solved = self._solve(limit)
            loss = sum(self.open[name].loss(choice) for name, choice in solved.items())
            cost = sum(self._cost(self.open[name], choice) for name, choice in solved.items())
            points.append(FrontierPoint(self._in_terms(cost), Power(1.0, loss).decibels))
        return tuple(dict.fromkeys(points))

    def outcome(self) -> BudgetOutcome:
        """Say what all weights cost together, those that are decided as they are and the others at their cheapest."""
        reached = self._in_terms(self._extreme(min))
        return BudgetOutcome(self.budget.kind, self.budget.target, reached, self.budget.margin)

    def _cost(self, item: Sensitivity, choice: GridChoice) -> float:
        return self._cost_of(item.name, item.numel, choice.bits, choice.sparsity, choice.entropy_bytes)

    def _cost_of(self, name: str, numel: int, bits: int, sparsity: float, entropy_bytes: float) -> float:
        """What is to be kept small: bytes, bit operations, or entries that are not zero."""
        if self.budget.kind == "size":
            return entropy_bytes
        if self.budget.kind == "bops":
            return (1 - sparsity) * self.macs.get(name, 0) * bits * FLOAT_BITS
        return (1 - sparsity) * numel

    def _remaining(self, target: float) -> float:
        """What the open weights may cost together."""
        wanted = 1 - target if self.budget.kind == "sparsity" else target
        return wanted * self.unit - self.fixed - self.spent

    def _in_terms(self, cost: float) -> float:
        total = (cost + self.fixed + self.spent) / self.unit
        return 1 - total if self.budget.kind == "sparsity" else total

    def _cheapest(self, item: Sensitivity) -> GridChoice:
        return min(item.choices, key=lambda choice: (self._cost(item, choice), item.loss(choice)))

    def _extreme(self, which: Callable[[Iterable[float]], float]) -> float:
        return sum(which(self._cost(item, choice) for choice in item.choices) for item in self.open.values())

    def _solve(self, limit: float) -> dict[str, GridChoice]:
        """Minimise the loss of the open weights under a limit on their cost; the cheapest of all where none fits."""
        items = list(self.open.values())
        step = max(limit, 0.0) / BUCKETS
        best = np.zeros(BUCKETS + 1)
        taken: list[np.ndarray] = []
        for item in items:
            candidates = np.full((len(item.choices), BUCKETS + 1), math.inf)
            for number, choice in enumerate(item.choices):
                size = self._buckets(self._cost(item, choice), step)
                if size <= BUCKETS:
                    candidates[number, size:] = best[: BUCKETS + 1 - size] + item.loss(choice)
            taken.append(candidates.argmin(0))
            best = candidates.min(0)
        if not math.isfinite(best[-1]):
            return {item.name: self._cheapest(item) for item in items}
        left = BUCKETS
        found = {}
        for item, numbers in zip(reversed(items), reversed(taken), strict=True):
            choice = item.choices[numbers[left]]
            found[item.name] = choice
            left -= self._buckets(self._cost(item, choice), step)
        return found

    @staticmethod
    def _buckets(cost: float, step: float) -> int:
        """Round to the nearest bucket: rounding up would cost a small budget a part of it for every weight."""
        return round(cost / step) if step else (0 if cost <= 0 else BUCKETS + 1)
