"""A budget says how near a run must come to it, and reads a network's cost in its own terms."""

from types import SimpleNamespace

import pytest

from codeq.training.budget import Budget

COST = SimpleNamespace(sparsity=0.75, pointwise_sparsity=0.5, relative_bops=0.02, entropy_bytes=5_000.0)


@pytest.mark.parametrize(("kind", "target"), [("sparsity", 1.0), ("bops", 0.0), ("size", -1.0), ("latency", 1.0)])
def test_budgets_out_of_range(kind: str, target: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        Budget(kind, target)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("budget", "margin", "reached", "text"),
    [
        (Budget("sparsity", 0.9), 0.01, 0.75, "90.0% zeros"),
        (Budget("pointwise_sparsity", 0.9), 0.01, 0.5, "90.0% zeros in 1x1 convolutions"),
        (Budget("bops", 0.04), 0.005, 0.02, "4.00% relative BOPs"),
        (Budget("size", 200_000), 10_000, 5_000, "200.0 kB"),
    ],
    ids=lambda value: str(value),
)
def test_a_budget_in_its_own_terms(budget: Budget, margin: float, reached: float, text: str) -> None:
    assert budget.margin == pytest.approx(margin)
    assert budget.of(COST) == reached
    assert str(budget) == text
