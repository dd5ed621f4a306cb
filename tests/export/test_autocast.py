"""Mixed precision and export_onnx: files compute in float32, or the network is refused in one line."""

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

import codeq
from export import ExportError, check_parity, export_onnx

ACTIVATIONS: Any = pytest.mark.parametrize("activations", ["float32", "int8"])


class Network(nn.Module):
    """Of 1 x 8 x 8 inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.fc = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(144, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.bn(self.conv(x))).flatten(1))


class Autocast(Network):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return super().forward(x)


@ACTIVATIONS
@pytest.mark.full
def test_autocast_around_the_export_changes_no_byte(activations: Any, tmp_path: Path) -> None:
    model, x = Network().eval(), torch.rand(3, 1, 8, 8)
    codeq.attach(model)
    export_onnx(model, (x,), tmp_path / "outside.onnx", activations=activations)
    with torch.autocast("cpu", torch.bfloat16):
        assert export_onnx(model, (x,), tmp_path / "inside.onnx", activations=activations).verdict.ok
        assert check_parity(tmp_path / "inside.onnx", model, x).ok
    assert (tmp_path / "inside.onnx").read_bytes() == (tmp_path / "outside.onnx").read_bytes()


@ACTIVATIONS
def test_autocast_in_forward_is_refused_in_a_line(activations: Any, tmp_path: Path) -> None:
    model = Autocast()
    codeq.attach(model)
    message = r"^conv: conv2d computes in torch\.bfloat16, expected torch\.float32; take torch\.autocast [^\n]+$"
    with pytest.raises(ExportError, match=message):
        export_onnx(model, (torch.rand(3, 1, 8, 8),), tmp_path / "net.onnx", activations=activations)
    assert list(tmp_path.iterdir()) == []


@ACTIVATIONS
def test_a_network_that_accelerate_prepared(activations: Any, tmp_path: Path) -> None:
    accelerator = Accelerator(mixed_precision="bf16", cpu=True)
    model, x = Network(), torch.rand(3, 1, 8, 8)
    codeq.attach(model)
    prepared = accelerator.prepare(model)
    prepared(x).sum().backward()
    for wrapped in (prepared, accelerator.unwrap_model(prepared, keep_fp32_wrapper=True)):
        with pytest.raises(ExportError, match=r"^conv: conv2d computes .*unwrap_model\(model, keep_fp32_wrapper=False"):
            export_onnx(wrapped, (x,), tmp_path / "net.onnx", activations=activations)
    plain = accelerator.unwrap_model(prepared, keep_fp32_wrapper=False)
    assert export_onnx(plain, (x,), tmp_path / "net.onnx", activations=activations).verdict.ok
