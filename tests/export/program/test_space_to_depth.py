"""The first convolution on fewer positions: where it is done, and that it is exact."""

from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn

import codeq
from export import export_onnx
from export.program.space_to_depth import rearrange_kernel, restore_kernel


def export(conv: nn.Conv2d, size: tuple[int, int], path: Path, **options: Any) -> tuple[list[str], bool]:
    torch.manual_seed(0)
    model = nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU(), nn.Conv2d(conv.out_channels, 3, 1))
    codeq.attach(model, bits=4)
    x = torch.randn(6, conv.in_channels, *size)
    model.train()(x)
    codeq.freeze(model)
    report = export_onnx(model.eval(), (x[:2],), path, check_inputs=(x,), activations="int8", calibration=x, **options)
    return [node.op_type for node in onnx.load(path).graph.node], report.verdict.ok


@pytest.mark.parametrize(
    ("kernel", "padding"),
    [
        pytest.param(kernel, padding, marks=[] if (kernel, padding) in ((5, 2), (6, 0), (7, 3)) else pytest.mark.full)
        for kernel in (5, 6, 7)
        for padding in (0, 1, 2, 3)
    ],
)
@pytest.mark.full
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


@pytest.mark.quick
@pytest.mark.parametrize("kernel", [(5, 5), (6, 7), (7, 7)])
@pytest.mark.parametrize("offset", [(0, 0), (1, 0), (1, 1)])
def test_a_rearranged_kernel_comes_back(kernel: tuple[int, int], offset: tuple[int, int], rng: torch.Generator) -> None:
    weight = torch.randint(-9, 10, (4, 3, *kernel), generator=rng).float()
    rearranged = rearrange_kernel(weight, offset)
    assert rearranged.shape == (4, 12, (kernel[0] + offset[0] + 1) // 2, (kernel[1] + offset[1] + 1) // 2)
    restored = restore_kernel(rearranged, offset, tuple(weight.shape))
    assert restored is not None
    assert torch.equal(restored, weight)
    # Something beside the kernel: not its rearrangement.
    free = (rearrange_kernel(torch.ones_like(weight), offset) == 0).nonzero()
    if len(free):
        rearranged[tuple(free[0])] = 1.0
        assert restore_kernel(rearranged, offset, tuple(weight.shape)) is None
