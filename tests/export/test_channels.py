"""Weights with a scale per channel become files whose values are the network's, BatchNorms folded into the scales."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import codeq
from export import export_onnx, export_tflite
from export.onnx.sessions import load_session


class Net(nn.Module):
    """Has each kind of layer whose output channels lie on an axis of their own, and BatchNorms of both signs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.linear = nn.Linear(4, 6)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.depthwise(self.norm(self.conv(x)).relu()).relu()
        x = self.linear(self.up(x).relu().flatten(2).transpose(1, 2))
        x = x + self.attention(x, x, x, need_weights=False)[0]
        result: Tensor = self.head(x.mean(1))
        return result


@pytest.fixture(scope="module")
def network() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    model = Net().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(torch.rand(len(parameter), *[1] * (parameter.ndim - 1)) * 3 + 0.1)
        model.norm.weight.normal_()
        model.norm.running_var.uniform_(0.3, 2)
    codeq.attach(model, 4, granularity="channel")
    codeq.freeze(model)
    return model, torch.randn(6, 3, 6, 6)


@pytest.mark.slow("an export")
@pytest.mark.parametrize("activations", [pytest.param("float32", marks=pytest.mark.full), "int8"])
@pytest.mark.parametrize("storage", ["auto", pytest.param("packed", marks=pytest.mark.full)])
@pytest.mark.full
def test_onnx(network: tuple[nn.Module, Tensor], activations: Any, storage: Any, tmp_path: Path) -> None:
    model, x = network
    path = tmp_path / "net.onnx"
    report = export_onnx(
        model, (x[:2],), path, activations=activations, storage=storage, calibration=x, check_inputs=(x,)
    )
    assert report.verdict.ok
    assert all(check.ok for check in report.verdict.weights)
    if activations == "float32":
        (found,) = load_session(path).run(None, {"input": x.numpy()})
        np.testing.assert_allclose(found, model(x).detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("activations", ["float32", "int8"])
def test_tflite(network: tuple[nn.Module, Tensor], activations: Any, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is an extra: pip install '.[tflite]'")
    model, x = network
    path = tmp_path / "net.tflite"
    report = export_tflite(model, (x[:2],), path, activations=activations, calibration=x, check_inputs=(x,))
    assert report.verdict.ok
    assert all(check.ok for check in report.verdict.weights)
