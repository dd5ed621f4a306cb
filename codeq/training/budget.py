"""A budget says what a network may cost when its training ends: zeros, bit operations, or bytes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from codeq.errors import CodeqError
from codeq.toolkit.table import format_bytes

Kind = Literal["sparsity", "pointwise_sparsity", "bops", "size"]

MARGINS: Mapping[Kind, float] = {"sparsity": 0.01, "pointwise_sparsity": 0.01, "bops": 0.005, "size": 0.05}
"""How near a run ends to its target: absolute for sparsity and relative BOPs, a fraction of the target for size."""


class BudgetError(CodeqError):
    """Raised for a budget that this network, or this run of it, cannot meet."""


class Cost(Protocol):
    """Says what a budget reads of `codeq.cost.CostSummary`, whose module loads PyTorch."""

    @property
    def sparsity(self) -> float: ...
    @property
    def pointwise_sparsity(self) -> float: ...
    @property
    def relative_bops(self) -> float: ...
    @property
    def entropy_bytes(self) -> float: ...


@dataclass(frozen=True)
class Budget:
    """A budget is a target. `kind` "sparsity": zeros over all weights, in (0, 1); "pointwise_sparsity": those of 1x1
    convolutions, and none elsewhere are asked for; "bops": relative BOPs in (0, 1), the paper's definition; "size":
    bytes by the entropy bound of the codes, float weights counting 4 bytes each."""

    kind: Kind
    target: float

    def __post_init__(self) -> None:
        if self.kind not in MARGINS:
            raise ValueError(f"kind must be one of {', '.join(MARGINS)}, found {self.kind!r}")
        if not 0 < self.target < (math.inf if self.kind == "size" else 1):
            raise ValueError(f"{self.kind} must be a positive number{'' if self.kind == 'size' else ' below 1'}")

    @property
    def counts_zeros(self) -> bool:
        """Say whether more of it is less cost."""
        return self.kind in ("sparsity", "pointwise_sparsity")

    @property
    def margin(self) -> float:
        """Say how far from the target a run may end."""
        return MARGINS[self.kind] * (self.target if self.kind == "size" else 1)

    def of(self, cost: Cost) -> float:
        """Read what a network costs, in the terms of this budget."""
        if self.kind == "pointwise_sparsity":
            return cost.pointwise_sparsity
        return {"sparsity": cost.sparsity, "bops": cost.relative_bops, "size": cost.entropy_bytes}[self.kind]

    def format(self, value: float) -> str:
        """Write a cost of this kind for people."""
        if self.kind == "size":
            return format_bytes(value)
        where = " in 1x1 convolutions" if self.kind == "pointwise_sparsity" else ""
        return f"{value:.2%} relative BOPs" if self.kind == "bops" else f"{_percent(value)} zeros{where}"

    def __str__(self) -> str:
        return self.format(self.target)


def _percent(share: float) -> str:
    """Write a share with a digit, or with as many as keep what is below 1 below 100 %."""
    digits = next((digits for digits in range(1, 12) if share == 1 or f"{share:.{digits}%}" != f"{1:.{digits}%}"), 12)
    return f"{share:.{digits}%}"
