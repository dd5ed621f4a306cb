"""A node in other words computes the same, with an open batch too, and leaves a graph that runs."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from codeq.graph.nodes import GraphRunner, operator_name
from codeq.graph.spell import spell_all
from codeq.graph.spelled_moves import MOVES_IN_OTHER_WORDS
from codeq.graph.trace import trace

aten = torch.ops.aten


class Calls(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


MOVES = {
    "channel_shuffle": lambda x: torch.channel_shuffle(x, 2),
    "repeat": lambda x: x.repeat(1, 2, 1, 3),
    "repeat_interleave": lambda x: x.repeat_interleave(2, 2),
    "tensor_split": lambda x: x.tensor_split(3, 1)[1],
    "select_scatter": lambda x: torch.select_scatter(x, x[:, :, 0], 2, -1),
    "movedim": lambda x: x.movedim(1, -1),
    "narrow": lambda x: x.narrow(2, 1, 3),
}


@pytest.mark.parametrize("name", MOVES)
def test_moves_in_other_words(name: str) -> None:
    x = torch.randn(3, 4, 5, 6)
    exported = trace(Calls(MOVES[name]).eval(), (x,))
    before = [operator_name(node) for node in exported.graph.nodes]
    assert name in before
    assert spell_all(exported, MOVES_IN_OTHER_WORDS) == 1
    exported.graph_module.recompile()
    exported.graph.lint()
    assert name not in [operator_name(node) for node in exported.graph.nodes]
    for batch in (1, 3):
        (found,) = GraphRunner(exported).compute((x[:batch],))
        assert torch.equal(found, MOVES[name](x[:batch]))


def test_none_leaves_the_node() -> None:
    exported = trace(Calls(lambda x: x.sin() + x.cos()).eval(), (torch.randn(2, 3),))
    words = {aten.sin.default: lambda x: None, aten.cos.default: lambda x: (1 - x.sin().square()).sqrt()}
    assert spell_all(exported, words) == 1
    names = [operator_name(node) for node in exported.graph.nodes if node.op == "call_function"]
    assert names.count("sin") == 2
    assert "cos" not in names


def test_several_results() -> None:
    exported = trace(Calls(lambda x: torch.var_mean(x, 1)).eval(), (torch.randn(2, 3),))

    def words(x: Tensor, axes: Any, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        mean = x.mean(axes, keepdim=True)
        return (x - mean).square().sum(axes) / (x.shape[1] - 1), mean.squeeze(1)

    assert spell_all(exported, {aten.var_mean.dim: words}) == 1
    exported.graph_module.recompile()
    x = torch.randn(4, 3)
    found = GraphRunner(exported).compute((x,))
    for one, other in zip(found, torch.var_mean(x, 1), strict=True):
        assert torch.allclose(one, other, atol=1e-6)
