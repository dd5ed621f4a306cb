"""What a BatchNorm makes of a layer's channels, and scales at which no int32 bias fits."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

import codeq
from codeq.compress import compress
from codeq.compress.folded import BIAS_STEPS, Folded, folded_channels
from codeq.graph.trace import trace
from export import export_onnx


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(96, 4)]
    model = nn.Sequential(*layers).eval()
    with torch.no_grad():
        model[1].running_mean.normal_()
        model[1].running_var.uniform_(0.5, 2)
        model[1].weight.normal_()
        model[1].bias.normal_()
    return model


def test_they_are_what_folding_gives() -> None:
    model, x = network(), torch.randn(3, 2, 6, 6)
    found = folded_channels(trace(model, (x,)))
    assert list(found) == ["0.weight", "4.weight"]
    conv, norm = model[0], model[1]
    sign = norm.weight.sign().reshape(-1, 1, 1, 1)
    kernel = conv.weight * sign * found["0.weight"].gain.reshape(-1, 1, 1, 1)
    folded = nn.functional.conv2d(x, kernel, found["0.weight"].offset)
    assert torch.allclose(folded, model[:2](x), atol=1e-5)
    assert torch.equal(found["4.weight"].offset, model[4].bias)
    assert found["4.weight"].gain.tolist() == [1.0] * 4


def test_the_least_scale_by_hand() -> None:
    folded = Folded(torch.tensor([2.0, 1.0, 0.0]), torch.tensor([4.0, 0.0, 4.0]))
    scale = folded.least_scale(255.0)  # an input scale of 1
    assert scale.tolist() == [4 / 2 / BIAS_STEPS, 0.0, 0.0]


@pytest.mark.slow("an int8 export")
def test_a_channel_with_hardly_any_weights_exports(tmp_path: Path) -> None:
    """Its bias would be beyond int32 on a scale of its own; on the least one that fits it loses nothing that shows."""
    model = network()
    with torch.no_grad():
        model[0].weight[1] *= 1e-6
        model[0].weight[2] *= 1e-11
        model[1].bias[1:3] = 3.0
    original = copy.deepcopy(model)
    x = torch.randn(32, 2, 6, 6)
    compress(model, x)
    codes = codeq.encode(model)["0.weight"].codes
    assert not bool(codes[2].any())
    with torch.no_grad():
        assert float((model(x) - original(x)).abs().max()) < 0.02 * float(original(x).abs().max())
    report = export_onnx(model, (x[:2],), tmp_path / "net.onnx", activations="int8", calibration=x, check_inputs=(x,))
    assert report.verdict.ok
    assert not [kernel.reason for kernel in report.kernels if "int32" in kernel.reason]
