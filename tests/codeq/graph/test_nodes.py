"""Traced networks: names of layers, one spelling per operation, and the runner."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codeq.errors import TraceError
from codeq.graph.canonical import canonicalize, merge_equal
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


def targets(exported: torch.export.ExportedProgram) -> list[str]:
    return [operator_name(node) for node in exported.graph.nodes if operator_name(node)]


class Spellings(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y = F.silu(x) * 2
        y.relu_()
        rows = F.adaptive_avg_pool1d(x.flatten(2), 1), F.adaptive_avg_pool1d(x.flatten(2), 2)
        return y, x.mean((-1, 2)), x.mean((2, 3), keepdim=True), self.fc(x.permute(0, 2, 3, 1)), x.mean(1), *rows


def test_one_spelling_per_operation_and_the_same_values(rng: torch.Generator) -> None:
    model = Spellings().eval()
    x = torch.randn(5, 3, 6, 4, generator=rng)
    exported = trace(model, (x[:2],))
    canonicalize(exported)
    found = targets(exported)
    assert "silu" not in found
    assert "relu_" not in found
    assert found.count("mean") == 1  # over channels: no pooling
    assert found.count("adaptive_avg_pool2d") == 3
    assert found.count("adaptive_avg_pool1d") == 1  # to two values
    assert found.count("sigmoid") == 1
    linear = next(node for node in exported.graph.nodes if operator_name(node) == "linear")
    assert linear.meta["val"].ndim == 2
    # The batch size is still open: 5 runs where 2 was traced.
    for ours, expected in zip(GraphRunner(exported).compute((x,)), model(x), strict=True):
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("inplace", [True, False])
def test_a_clamp_follows_its_linear_layer_directly(inplace: bool, rng: torch.Generator) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace), nn.Linear(4, 4), nn.Hardtanh(-0.1, 0.2)).eval()
    exported = trace(model, (torch.rand(2, 5, 3),))
    canonicalize(exported)
    assert targets(exported) == ["reshape", "linear", "relu", "reshape", "reshape", "linear", "hardtanh", "reshape"]
    assert list(layer_names(exported.graph).values())[1:3] == ["0", "1"]
    x = torch.randn(3, 5, 3, generator=rng)
    torch.testing.assert_close(GraphRunner(exported).compute((x,))[0], model(x))


@pytest.mark.parametrize("write_view", [True, False])
def test_writes_that_others_see_through_a_view_stay_writes(write_view: bool, rng: torch.Generator) -> None:
    class Writes(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y = x * 2
            part = y[:, :1]
            (part if write_view else y).relu_()
            return y, part + 1

    x = -torch.rand(2, 3, generator=rng)  # so that relu writes
    exported = trace(Writes(), (x,))
    canonicalize(exported)
    for ours, expected in zip(GraphRunner(exported).compute((x.clone(),)), Writes()(x.clone()), strict=True):
        torch.testing.assert_close(ours, expected)


def test_a_write_into_a_view_that_nothing_else_sees_is_none(rng: torch.Generator) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Dropout(inplace=True), nn.ReLU(inplace=True)).eval()
    exported = trace(model, (torch.rand(2, 3, 5, 5),))
    canonicalize(exported)
    assert targets(exported) == ["conv2d", "flatten", "dropout", "relu"]
    x = torch.randn(3, 3, 5, 5, generator=rng)
    assert torch.equal(GraphRunner(exported).compute((x,))[0], model(x))


def test_equal_computations_are_merged(rng: torch.Generator) -> None:
    class Twice(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x.exp() + x.exp(), x.exp().sum(1)

    x = torch.randn(2, 3, generator=rng)
    exported = trace(Twice(), (x,))
    merge_equal(exported)
    assert targets(exported).count("exp") == 1
    for ours, expected in zip(GraphRunner(exported).compute((x,)), Twice()(x), strict=True):
        assert torch.equal(ours, expected)


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


def test_networks_without_a_graph_are_refused_in_one_line() -> None:
    class Branches(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if bool(x.sum() > 0) else -x

    class Scalar(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, int]:
            return x, 3

    with pytest.raises(TraceError, match=r"^torch.export cannot trace Branches: [^\n]+$"):
        trace(Branches(), (torch.rand(2, 3),))
    with pytest.raises(TraceError, match="output 1 of Scalar is 3, expected a tensor"):
        trace(Scalar(), (torch.rand(2, 3),))
