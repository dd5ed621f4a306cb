"""One spelling per operation, with the same values."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codeq.errors import TraceError
from codeq.graph.canonical import NEEDED_BY_ONNX, canonicalize, merge_equal, refuse_writes
from codeq.graph.nodes import GraphRunner, layer_names, operator_name
from codeq.graph.trace import trace


def targets(exported: torch.export.ExportedProgram) -> list[str]:
    return [operator_name(node) for node in exported.graph.nodes if operator_name(node)]


class Spellings(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y = F.silu(x) * 2
        y.relu_()
        rows = F.adaptive_avg_pool1d(x.flatten(2), 1), F.adaptive_avg_pool1d(x.flatten(2), 5)
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
    assert found.count("adaptive_avg_pool1d") == 1  # to five values, whose windows differ
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


class Respelled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x, x + 1, 2 * x], 1) @ torch.stack([x, x], -3).mT[:, :1]


def test_stacks_are_concatenations_and_transposed_matrices_are_transposes(rng: torch.Generator) -> None:
    exported = trace(Respelled(), (torch.rand(2, 5, 3),))
    canonicalize(exported)
    assert {"stack", "mT"}.isdisjoint(targets(exported))
    x = torch.randn(3, 5, 3, generator=rng)
    torch.testing.assert_close(GraphRunner(exported).compute((x,))[0], Respelled()(x), rtol=0, atol=0)


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


def test_a_write_that_cannot_be_followed_is_refused_by_name() -> None:
    class Writes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x + 1
            y.diagonal(0, 1, 2).zero_()
            return y

    exported = trace(Writes(), (torch.rand(2, 3, 3),))
    canonicalize(exported)
    with pytest.raises(TraceError, match=r"^zero_ writes in place into a view that cannot be followed; use [^\n]+$"):
        refuse_writes(exported)


def test_sums_of_cut_windows_over_another_number() -> None:
    """Every size, kernel, stride and padding that PyTorch takes: which last window it leaves out."""
    words, tried = NEEDED_BY_ONNX[torch.ops.aten.avg_pool2d.default], 0
    for size, kernel, stride, padding in itertools.product(range(2, 9), range(1, 5), range(1, 6), range(3)):
        if padding > kernel // 2 or size + 2 * padding < kernel:
            continue
        x, tried = torch.randn(1, 2, size, size + 1), tried + 1
        expected = F.avg_pool2d(x, kernel, stride, padding, True, True, 3)
        torch.testing.assert_close(words(x, [kernel], [stride], [padding], True, True, 3), expected)
    assert tried > 200
