"""Hooks that look see real values alone; hooks that are part of the network are traced with it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensor

import codeq
from codeq.graph.nodes import GraphRunner
from codeq.graph.trace import trace
from export import export_onnx


def test_a_hook_that_looks_is_not_traced_and_comes_back() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU()).eval()
    seen: list[Any] = []
    model[0].register_forward_hook(lambda module, inputs, output: seen.append(output))
    model[0].register_forward_pre_hook(lambda module, inputs: seen.extend(inputs))
    model.register_forward_hook(
        lambda module, inputs, keywords, output: seen.append((inputs, keywords, output)), with_kwargs=True
    )
    hooks = [dict(module._forward_hooks) for module in model.modules()]
    handle = nn.modules.module.register_module_forward_hook(lambda module, inputs, output: seen.append(output))
    try:
        trace(model, (torch.rand(2, 3),))
    finally:
        handle.remove()
    assert seen
    assert not [value for value in torch.utils._pytree.tree_leaves(seen) if isinstance(value, FakeTensor)]
    assert [dict(module._forward_hooks) for module in model.modules()] == hooks
    seen.clear()
    model(torch.rand(2, 3))
    assert len(seen) == 3


def _scaled(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    return output * 3


def _written(module: nn.Module, inputs: Any, output: Tensor) -> None:
    output.mul_(3)


def _given(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    return (inputs[0] * 3,)


def _weighted(module: Any, inputs: Any) -> None:
    module.weight = module.trained * 3


@pytest.mark.parametrize("hook", [_scaled, _written, _given, _weighted], ids=lambda hook: hook.__name__)
def test_a_hook_that_computes_is_part_of_the_network(hook: Any, rng: torch.Generator) -> None:
    layer = nn.Linear(3, 3, bias=False)
    if hook is _weighted:
        layer.trained = nn.Parameter(layer.weight.detach())
        del layer.weight
        layer.weight = layer.trained.detach()  # as the old weight_norm keeps it
    (layer.register_forward_pre_hook if hook in (_given, _weighted) else layer.register_forward_hook)(hook)
    model = nn.Sequential(layer, nn.ReLU()).eval()
    x = torch.randn(2, 3, generator=rng)
    exported = trace(model, (x,))
    torch.testing.assert_close(GraphRunner(exported).compute((x,))[0], model(x))


def test_an_export_shows_a_users_hook_real_values_alone(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1)).eval()
    codeq.attach(model, 4, grid="integer")
    codeq.freeze(model)
    features: list[Tensor] = []
    model[0].register_forward_hook(lambda module, inputs, output: features.append(output))
    report = export_onnx(model, (torch.rand(2, 3, 6, 6),), tmp_path / "net.onnx", activations="int8")
    assert report.verdict.ok
    assert features
    assert not any(isinstance(feature, FakeTensor) for feature in features)
    assert len(model[0]._forward_hooks) == 1
