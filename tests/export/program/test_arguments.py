"""Arguments of nodes: what is left out, and what is given once for two axes."""

from typing import Any

import pytest
import torch
from torch.fx import Graph

from export.program.arguments import fill, pair


def test_what_is_left_out_is_filled_in() -> None:
    graph = Graph()
    x = graph.placeholder("x")
    node = graph.call_function(torch.ops.aten.softmax.int, (x, 1))
    assert fill(node, None, 0, "type") == [x, 1, "type"]
    assert fill(node, None) == [x]


@pytest.mark.parametrize(("given", "expected"), [(3, (3, 3)), ([3], (3, 3)), ((1, 2), (1, 2))])
def test_pairs(given: Any, expected: tuple[int, int]) -> None:
    assert pair(given) == expected
