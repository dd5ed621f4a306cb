"""Which nodes only move values, and what a chain of them starts at."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import Node

from codeq.activations.moves import is_move, roots
from codeq.graph.trace import trace


def last_node(function: Callable[[Tensor], Tensor]) -> Node:
    class Body(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return function(x)

    (node,) = trace(Body(), (torch.rand(2, 4, 6, 6),)).graph.output_node().all_input_nodes
    return node


@pytest.mark.parametrize(
    ("function", "moves"),
    [
        (lambda x: x.flatten(1), True),
        (lambda x: F.max_pool2d(x, 2), True),
        (lambda x: F.pad(x, (1, 1)), True),
        (lambda x: F.pad(x, (1, 1), value=1.0), False),
        (lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"), True),
        (lambda x: x.chunk(2, 1)[1], True),
        (lambda x: torch.cat([x, x[:, :1]], 1), True),
        (lambda x: torch.cat([x, torch.zeros(3, 4, 6, 6)]), False),
        (lambda x: torch.cat([x, F.relu(x)], 1), False),
        (lambda x: x.amax(1), True),
        (lambda x: x.index_select(1, torch.tensor([2, 0])), True),
        (lambda x: x[:, [2, 0]], True),
        (lambda x: x[torch.arange(x.shape[0]), x.mean((2, 3)).argmax(1)], False),
        (lambda x: torch.arange(5.0).index_select(0, x.flatten().argsort()), False),
        (lambda x: torch.cat([F.relu(x), F.interpolate(F.relu(-x), size=(6, 6), mode="bilinear")], 1), True),
        (lambda x: torch.cat([x, F.interpolate(F.relu(x), size=(6, 6), mode="bilinear")], 1), False),
        (lambda x: x.sort(1)[0], False),
        (lambda x: F.relu(x), False),
        (lambda x: x + x, False),
    ],
    ids=[
        "reshape",
        "max_pool",
        "zero_padding",
        "padding_with_ones",
        "reflection",
        "part",
        "concatenation",
        "concatenation_with_a_constant",
        "concatenation_with_a_clamped_part",
        "largest",
        "picked",
        "indexed",
        "computed_places",
        "of_a_constant",
        "concatenation_of_clamped_parts_one_resized",
        "concatenation_with_a_clamped_resized_part",
        "result_of_another",
        "clamp",
        "sum",
    ],
)
def test_what_moves(function: Callable[[Tensor], Tensor], moves: bool) -> None:
    assert is_move(last_node(function)) == moves


def test_roots_are_what_moves_start_at() -> None:
    node = last_node(lambda x: torch.cat([x.exp().flatten(2), x.sin().flatten(2)[:, :1]], 1).permute(0, 2, 1))
    assert [root.name for root in roots(node)] == ["exp", "sin"]
    (exp, _) = roots(node)
    assert list(roots(exp)) == [exp]


def test_places_are_no_roots() -> None:
    node = last_node(lambda x: x.exp().index_select(1, torch.tensor([2, 0]))[:, [1, 0]])
    assert [root.name for root in roots(node)] == ["exp"]
