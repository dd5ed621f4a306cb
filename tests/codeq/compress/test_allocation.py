"""The allocation is the best there is: held against every combination on tables small enough to try them all."""

import itertools
import random

import pytest

from codeq.compress.allocation import Allocation
from codeq.compress.sensitivity import GridChoice, Sensitivity
from codeq.errors import CompressError
from codeq.training.budget import Budget

NAMES = ("a", "b", "c", "d")
NUMEL = 100


def table(seed: int) -> dict[str, Sensitivity]:
    draw = random.Random(seed)
    found = {}
    for name in NAMES:
        choices = tuple(
            GridChoice(bits, zeros, zeros, 10.0 * bits * (1 - zeros), draw.random() * 2.0**-bits * (1 + 9 * zeros))
            for bits in (2, 4, 8)
            for zeros in (0.0, 0.5, 0.9)
        )
        found[name] = Sensitivity(name, NUMEL, choices, gain=draw.random() * 10)
    return found


def cost(kind: str, choice: GridChoice, macs: int) -> float:
    if kind == "size":
        return choice.entropy_bytes
    return (1 - choice.sparsity) * (NUMEL if kind == "sparsity" else macs * choice.bits * 32)


MACS = dict(zip(NAMES, (1000, 5000, 20000, 400), strict=True))
UNITS = {"sparsity": NUMEL * len(NAMES), "bops": sum(MACS.values()) * 32 * 32, "size": 1}


@pytest.mark.parametrize(("kind", "target"), [("sparsity", 0.4), ("bops", 0.05), ("size", 90)])
@pytest.mark.parametrize("seed", range(3))
def test_no_combination_is_better(kind: str, target: float, seed: int) -> None:
    items = table(seed)
    allocation = Allocation(Budget(kind, target), items, MACS, unit=UNITS[kind])  # type: ignore[arg-type]
    chosen = {name: allocation.choose(name) for name in NAMES}
    limit = (1 - target if kind == "sparsity" else target) * UNITS[kind]

    def loss(combination: tuple[GridChoice, ...]) -> float:
        return sum(items[name].loss(choice) for name, choice in zip(NAMES, combination, strict=True))

    def total(combination: tuple[GridChoice, ...]) -> float:
        return sum(cost(kind, choice, MACS[name]) for name, choice in zip(NAMES, combination, strict=True))

    allowed = [c for c in itertools.product(*(items[name].choices for name in NAMES)) if total(c) <= limit * (1 + 1e-9)]
    found = tuple(chosen[name] for name in NAMES)
    assert total(found) <= limit * 1.001  # costs are rounded to a part of the budget
    assert loss(found) <= min(map(loss, allowed)) * (1 + 1e-9)


def test_later_weights_pay_for_what_earlier_ones_cost() -> None:
    allocation = Allocation(Budget("size", 120), table(0), {}, unit=1.0)
    before = {name: allocation.choose(name) for name in NAMES[1:]}
    allocation.spend("a", 8, 0.0, 60.0)
    after = [allocation.choose(name) for name in NAMES[1:]]
    assert sum(choice.entropy_bytes for choice in after) <= 60.0 * 1.001
    assert sum(choice.entropy_bytes for choice in after) < sum(choice.entropy_bytes for choice in before.values())


def test_what_is_out_of_reach_says_what_can_be_done() -> None:
    with pytest.raises(
        CompressError,
        match=r"5 B is out of reach: the least that can be done here is 8 B, with about .*; ask for at least that$",
    ):
        Allocation(Budget("size", 5), table(0), {}, unit=1.0)


def test_the_frontier_loses_less_the_more_it_may_cost() -> None:
    points = Allocation(Budget("size", 120), table(1), {}, unit=1.0).frontier()
    assert len(points) > 4
    assert [p.target for p in points] == sorted(p.target for p in points)
    assert [p.decibels for p in points] == sorted(p.decibels for p in points)
