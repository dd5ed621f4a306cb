"""Other spellings compute the same values in the words that lowerings know."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codeq.graph.nodes import operator_name
from export.tflite.passes.spell_out import spell_out

pytestmark = pytest.mark.quick


class Net(nn.Module):
    def __init__(self, body: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


@pytest.mark.parametrize(
    ("body", "gone"),
    [
        (lambda x: F.max_pool1d(x, 3, 2, 1), "max_pool1d"),
        (lambda x: F.max_pool1d(x, 3, padding=1, ceil_mode=True), "max_pool1d"),
        (lambda x: F.adaptive_avg_pool1d(x, 4), "adaptive_avg_pool1d"),
        (lambda x: x.diff(2, 1, x[:, :1]), "diff"),
    ],
)
def test_values_are_the_same(program: Any, body: Callable[[Tensor], Tensor], gone: str) -> None:
    made = program(Net(body), (3, 8))
    x = torch.randn(2, 3, 8)
    before = made.exported.module()(x)
    assert spell_out(made.exported) == 1
    assert gone not in {operator_name(node) for node in made.exported.graph.nodes}
    torch.testing.assert_close(made.exported.module()(x), before, rtol=0, atol=0)
    assert spell_out(made.exported) == 0
