"""A clock tells the layer of a file from what surrounds it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import codeq
from export import export_onnx, export_tflite
from runtime_tests.bench.kernel_clock import onnxruntime_clock, sum_kernels, whole_clock


def event(name: str, operator: str, microseconds: int, category: str = "Node") -> dict[str, Any]:
    return {"cat": category, "name": name, "dur": microseconds, "args": {"op_name": operator}}


def test_kernels_are_added_up_by_run_and_borders_left_out() -> None:
    runs = [(100, 10), (200, 20), (300, 30)]
    events = [{"cat": "Session", "name": "model_run", "dur": 999, "args": {}}]
    for convolution, addition in runs:
        events += [
            event("q_kernel_time", "QuantizeLinear", 5000),
            event("conv_fence_before", "QLinearConv", 5000),
            event("conv_kernel_time", "QLinearConv", convolution),
            event("add_kernel_time", "QLinearAdd", addition),
            event("turn_kernel_time", "Transpose", 5000),
            event("d_kernel_time", "DequantizeLinear", 5000),
        ]
    assert sum_kernels(events) == pytest.approx([0.11, 0.22, 0.33])


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(8, 8, 3)).eval()
    codeq.attach(network, 8)
    codeq.freeze(network)
    return network


X = torch.randn(2, 8, 12, 12, generator=torch.Generator().manual_seed(0))


def test_onnxruntime_says_what_its_kernel_took(model: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "one.onnx"
    export_onnx(model, (X,), path, activations="int8", calibration=X)
    taken = onnxruntime_clock({}, 1)(path, 1, 5)
    assert len(taken) == 5
    assert all(0 <= milliseconds < 1000 for milliseconds in taken)
    assert sum(taken) > 0
    assert [found.name for found in tmp_path.iterdir()] == ["one.onnx"]  # no profile is left


def test_what_a_call_takes_is_taken_off(model: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "one.tflite"
    export_tflite(model, (X,), path, activations="int8", calibration=X, io="int8")
    taken = whole_clock(1, path)(path, 1, 15)
    assert len(taken) == 15
    assert sorted(taken)[4] < sorted(whole_clock(1, path)(path, 64, 15))[7]  # of itself next to nothing is left
