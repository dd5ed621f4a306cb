"""From a network to its graph: an open batch size, names of inputs and outputs, refusals in one line."""

import pytest
import torch
from torch import Tensor, nn

from codeq.errors import TraceError
from codeq.graph.nodes import GraphRunner, input_names, operator_name, output_names, scope
from codeq.graph.trace import trace


def test_the_batch_size_is_open_and_inputs_and_outputs_have_names(rng: torch.Generator) -> None:
    class Named(nn.Module):
        def forward(self, x: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
            assert mask is not None
            return {"masked": x * mask, "total": (x * mask).sum(1)}

    example = (torch.rand(1, 3), torch.ones(1, 3))
    exported = trace(Named(), example, ("x", "mask"))
    assert input_names(exported) == ("x", "mask")
    assert output_names(exported) == ("masked", "total")
    x, mask = torch.randn(5, 3, generator=rng), torch.tensor([[1.0, 0.0, 1.0]]).expand(5, 3)
    for ours, expected in zip(GraphRunner(exported).compute((x, mask)), Named()(x, mask).values(), strict=True):
        assert torch.equal(ours, expected)


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


def test_a_graph_module_has_names_and_hooks_as_any_module_has() -> None:
    """torch.export interprets one without its hooks; networks that torch.fx has rewritten are such modules."""
    network = torch.fx.symbolic_trace(nn.Sequential(nn.Linear(4, 3), nn.ReLU()))
    network.register_forward_hook(lambda module, inputs, output: output + 1)
    x = torch.randn(2, 4)
    exported = trace(network, (x,))
    assert output_names(exported) == ("output",)
    assert torch.equal(exported.module()(x)[0], network(x))
    assert len(network._forward_hooks) == 1
    layers = [scope(node)[0] for node in exported.graph.nodes if operator_name(node)]
    assert layers[0] == "0"


class TwoNames(nn.Module):
    """A convolution that is called by both of its names, the second one by the graph."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 2, 3, padding=1)
        self.second = self.first

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(x)))


def test_a_module_of_two_names_has_one() -> None:
    model = TwoNames()
    exported = trace(model, (torch.zeros(2, 2, 5, 5),))
    targets = [spec.target for spec in exported.graph_signature.input_specs if spec.target is not None]
    assert targets == ["first.weight", "first.bias"]
    assert list(exported.state_dict) == targets
    x = torch.randn(3, 2, 5, 5)
    assert torch.equal(exported.module()(x)[0], model(x))
