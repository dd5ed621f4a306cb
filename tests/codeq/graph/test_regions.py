"""Regions under autocast(enabled=False) and no_grad become ordinary nodes, and train as they did."""

import pytest
import torch
from torch import Tensor, nn

import codeq
from codeq.graph.canonical import canonicalize
from codeq.graph.nodes import GraphRunner, layer_names, operator_name
from codeq.graph.trace import trace

pytestmark = pytest.mark.quick


class Regions(nn.Module):
    """One of each, and one within another."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third, self.head = (nn.Linear(4, 4) for _ in range(4))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        with torch.autocast("cpu", enabled=False):
            x = self.second(self.first(x)).relu()
        with torch.no_grad():
            size = x.argmax(1)
            with torch.autocast("cpu", enabled=False):
                y = self.third(x)
        return {"logits": self.head(x + y), "size": size, "y": y}


def test_regions_are_inlined(rng: torch.Generator) -> None:
    model, x = Regions().eval(), torch.randn(5, 4, generator=rng)
    exported = trace(model, (x[:2],))
    operators = [operator_name(node) for node in exported.graph.nodes if node.op == "call_function"]
    assert [name for name in operators if name != "detach"] == [
        "linear",
        "linear",
        "relu",
        "argmax",
        "linear",
        "add",
        "linear",
    ]
    assert "" not in operators
    assert not list(exported.graph_module.children())
    exported.validate()
    canonicalize(exported)
    assert [name for name in layer_names(exported.graph).values() if "detach" not in name] == [
        "first",
        "second",
        "relu",
        "argmax",
        "third",
        "add",
        "head",
    ]
    for ours, expected in zip(GraphRunner(exported).compute((x,)), model(x).values(), strict=True):
        assert torch.equal(ours, expected)


def test_no_gradient_leaves_a_region_without_gradients() -> None:
    model = Regions()
    codeq.attach(model)
    x = torch.rand(8, 4)
    quantized = codeq.QuantizedActivations(model, (x,))
    assert {"first", "second", "third", "head"} <= {layer.name for layer in quantized.plan.layers}
    quantized.calibrate((x,))
    quantized(x)[0].sum().backward()
    gradients = {name: parameter.grad is not None for name, parameter in model.named_parameters()}
    assert {name for name, found in gradients.items() if not found and name.endswith("bias")} == {"third.bias"}
