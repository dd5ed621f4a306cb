"""Layers on codes, by hand: integer sums, and one rounding to the grid of the result."""

import pytest
import torch
from torch import Tensor
from torch.fx import Graph, Node

from export.reference.machine import Codes
from export.reference.weighted import FLOAT32_EXACT, WEIGHTED, weighted

aten = torch.ops.aten


def linear() -> Node:
    return Graph().call_function(aten.linear.default)


def codes(values: list, scale: float = 1.0) -> Codes:
    return Codes(torch.tensor(values), torch.tensor(scale))


def test_a_linear_layer() -> None:
    x, weight = codes([[1.0, -2.0]], 0.5), codes([[3, 4], [-1, 5]], 0.25)
    pending = weighted(linear(), x, weight, codes([10, 0], 0.125))
    assert pending.real().tolist() == [[(1 * 3 - 2 * 4 + 10) * 0.125, (-1 - 10) * 0.125]]
    assert pending.steps(torch.tensor(0.25), 7.0).tolist() == [[2.5, -5.5]]


@pytest.mark.parametrize("largest", [1, 127])
def test_sums_beyond_float32_are_exact(largest: int) -> None:
    """Every second product is odd, so that a float32 sum past 2^24 would lose the last bit."""
    width = 2 * FLOAT32_EXACT // (255 * 127) + 2
    x = torch.full((1, width), 255.0)
    x[0, 0] = 254.0
    weight = torch.full((1, width), largest, dtype=torch.int8)
    made: Tensor = weighted(linear(), Codes(x, torch.tensor(1.0)), Codes(weight, torch.tensor(1.0))).real()
    exact = int((x.long() * weight.long()).sum())
    assert made.item() == torch.tensor(float(exact)).item()


def test_layers_with_weights_alone() -> None:
    assert aten.conv2d.default in WEIGHTED
    assert aten.add.Tensor not in WEIGHTED
