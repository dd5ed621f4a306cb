"""The first convolution on fewer positions: where it is done, and that it is exact."""

from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn

import codeq
from export import export_onnx


def export(conv: nn.Conv2d, size: tuple[int, int], path: Path, **options: Any) -> tuple[list[str], bool]:
    torch.manual_seed(0)
    model = nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU(), nn.Conv2d(conv.out_channels, 3, 1))
    codeq.attach(model, bits=4)
    x = torch.randn(6, conv.in_channels, *size)
    model.train()(x)
    codeq.freeze(model)
    report = export_onnx(model.eval(), (x[:2],), path, check_inputs=(x,), activations="int8", calibration=x, **options)
    return [node.op_type for node in onnx.load(path).graph.node], report.verdict.ok


@pytest.mark.parametrize("kernel", [5, 6, 7])
@pytest.mark.parametrize("padding", [0, 1, 2, 3])
def test_stride_two_convolutions_on_images(kernel: int, padding: int, tmp_path: Path) -> None:
    operators, ok = export(nn.Conv2d(3, 4, kernel, 2, padding), (14, 18), tmp_path / "net.onnx")
    assert ok
    assert operators.count("SpaceToDepth") == 1
    assert "Pad" not in operators


@pytest.mark.parametrize(
    ("conv", "size"),
    [
        (nn.Conv2d(3, 4, 7, 1, 3), (14, 14)),
        (nn.Conv2d(3, 4, 3, 2, 1), (14, 14)),
        (nn.Conv2d(8, 4, 7, 2, 3), (14, 14)),
        (nn.Conv2d(3, 4, 7, 2, 3), (15, 14)),
        (nn.Conv2d(3, 6, 5, 2, 2, groups=3), (14, 14)),
        (nn.Conv2d(3, 4, 5, 2, 2, dilation=2), (14, 14)),
    ],
)
def test_others_are_left_alone(conv: nn.Conv2d, size: tuple[int, int], tmp_path: Path) -> None:
    operators, ok = export(conv, size, tmp_path / "net.onnx")
    assert ok
    assert "SpaceToDepth" not in operators


def test_an_input_with_other_readers_is_left_alone(tmp_path: Path) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Conv2d(3, 4, 7, 2, 3)
            self.b = nn.Conv2d(3, 4, 7, 2, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.a(x) + self.b(x)

    model = Two()
    codeq.attach(model, bits=4)
    codeq.freeze(model)
    x = torch.randn(4, 3, 12, 12)
    report = export_onnx(model.eval(), (x[:2],), tmp_path / "net.onnx", activations="int8", calibration=x)
    assert report.verdict.ok
    assert "SpaceToDepth" not in [node.op_type for node in onnx.load(tmp_path / "net.onnx").graph.node]


def test_excluded_and_float_files_are_left_alone(tmp_path: Path) -> None:
    operators, _ = export(nn.Conv2d(3, 4, 7, 2, 3), (14, 14), tmp_path / "a.onnx", activations_except=["0"])
    assert "SpaceToDepth" not in operators
