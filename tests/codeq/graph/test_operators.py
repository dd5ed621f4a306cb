"""The tables of operators: the limits of clamps as written, and which operators are in which table."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codeq.graph.operators import CLAMPS, MOVES, SPLITS
from codeq.graph.trace import trace

INF = float("inf")


@pytest.mark.parametrize(
    ("clamp", "limits"),
    [
        (F.relu, (0.0, INF)),
        (F.relu6, (0.0, 6.0)),
        (F.hardtanh, (-1.0, 1.0)),
        (lambda x: F.hardtanh(x, -0.5, 2.0), (-0.5, 2.0)),
        (lambda x: x.clamp(max=3), (-INF, 3.0)),
        (lambda x: x.clamp(-2, 3), (-2.0, 3.0)),
        (lambda x: torch.clamp_min(x, -1), (-1.0, INF)),
    ],
    ids=["relu", "relu6", "hardtanh", "hardtanh_limits", "clamp_max", "clamp", "clamp_min"],
)
def test_limits_are_those_that_the_operator_applies(
    clamp: Callable[[Tensor], Tensor], limits: tuple[float, float]
) -> None:
    class Clamped(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return clamp(x)

    exported = trace(Clamped(), (torch.rand(2, 3),))
    (node,) = (node for node in exported.graph.nodes if node.target in CLAMPS)
    assert CLAMPS[node.target](node) == limits
    low, high = clamp(torch.tensor([-1e9, 1e9])).tolist()
    assert (max(limits[0], -1e9), min(limits[1], 1e9)) == (low, high)


def test_an_operator_has_one_table() -> None:
    assert not MOVES & SPLITS
    assert not CLAMPS.keys() & (MOVES | SPLITS)
