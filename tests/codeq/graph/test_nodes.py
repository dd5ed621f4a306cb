"""Traced networks: names of layers, and the runner."""

import pytest
import torch
from torch import Tensor, nn

from codeq.graph.canonical import canonicalize
from codeq.graph.nodes import GraphRunner, is_constant, layer_names, operator_name
from codeq.graph.trace import trace

pytestmark = pytest.mark.quick


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.conv(x))
        y += x
        return self.act(self.conv(y))


def test_layers_are_named_after_modules_and_operators() -> None:
    exported = trace(nn.Sequential(Block(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval(), (torch.rand(2, 3, 8, 8),))
    canonicalize(exported)
    names = list(layer_names(exported.graph).values())
    assert names == ["0.conv", "0.act", "0.add", "0.conv_1", "0.act_1", "1", "2"]


def test_constants_are_computed_once(rng: torch.Generator) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.weight.exp()

    exported = trace(Scaled(), (torch.rand(2, 3),))
    assert [node.name for node in exported.graph.nodes if operator_name(node) and is_constant(node)] == ["exp"]
    runner = GraphRunner(exported, keep_constants=True)
    x = torch.randn(2, 3, generator=rng)
    first, second = runner.compute((x,)), runner.compute((x,))
    assert torch.equal(first[0], second[0])
    assert [node.name for node in runner.kept] == ["exp"]
