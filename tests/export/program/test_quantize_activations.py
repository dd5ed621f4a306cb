"""Quantizers in a program: integer biases, their limits, clamps, and what is left float."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import nn

import codeq
from codeq.activations.encoding import ActivationEncoding
from export import ExportError, Report, export_onnx, export_tflite
from tests.cases import Net
from tests.export.onnx.hostile import metadata_of


def plain_net() -> nn.Module:
    return Net(lambda m, x: m.fc(F.relu(m.conv(x)).amax((2, 3))), conv=nn.Conv2d(2, 4, 1), fc=nn.Linear(4, 3))


def net() -> nn.Module:
    torch.manual_seed(0)
    model = plain_net()
    codeq.attach(model, bits=4)
    codeq.freeze(model)
    return model.eval()


X = torch.randn(6, 2, 5, 5, generator=torch.Generator().manual_seed(5))


def export(model: nn.Module, path: Path, **options: Any) -> tuple[Report, dict[str, np.ndarray]]:
    options = {"activations": "int8", "calibration": X, "check_inputs": (X,)} | options
    report = export_onnx(model, (X[:2],), path, **options)
    proto = onnx.load(path)
    return report, {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}


def test_a_bias_is_rounded_once_to_input_scale_times_weight_scale(tmp_path: Path) -> None:
    model = net()
    _, tensors = export(model, tmp_path / "net.onnx")
    codes, scale = tensors["conv.bias_quantized"], tensors["conv.bias_scale"]
    assert codes.dtype == np.int32
    expected_scale = tensors["input_scale"] * tensors["conv.weight_scale"]
    np.testing.assert_array_equal(scale, np.broadcast_to(expected_scale, 4))
    bias = model.conv.bias.detach().numpy().astype(np.float64)  # type: ignore[union-attr,operator]
    np.testing.assert_array_equal(codes, np.rint(bias / scale.astype(np.float64)))
    # No float bias, and no float weight, is left.
    assert {k for k, v in tensors.items() if v.dtype == np.float32} == {
        name for name in tensors if name.endswith("_scale")
    }


def test_a_bias_beyond_int32_names_layer_channel_and_way_out(tmp_path: Path) -> None:
    model = net()
    with torch.no_grad():
        model.conv.bias[2] = 1e9  # type: ignore[index,union-attr,operator]
    message = (
        r"^conv: the bias 1e\+09 of channel 2 is .* beyond int32; leave the layer out with --activations-except conv$"
    )
    with pytest.raises(ExportError, match=message):
        export(model, tmp_path / "net.onnx", ranges="min-max")
    assert list(tmp_path.iterdir()) == []


def test_a_sum_beyond_int32_is_refused_too(tmp_path: Path) -> None:
    model = net()
    _, tensors = export(model, tmp_path / "net.onnx")
    scale = float(tensors["conv.bias_scale"][0])
    with torch.no_grad():
        model.conv.bias[1] = scale * (2**31 - 1000)  # type: ignore[index,union-attr,operator]
    grids = {"input": ActivationEncoding(float(tensors["input_scale"]), 128)}
    grids |= {name: ActivationEncoding(1.0, 0) for name in ("conv", "amax")}
    with pytest.raises(ExportError, match=r"^conv: sums of channel 1 can reach 2.15e\+09 steps .* beyond int32"):
        export(model, tmp_path / "other.onnx", activation_encodings=grids)


def test_a_dead_channel_takes_a_scale_that_its_bias_fits(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))
    codeq.attach(model, bits=4)
    norm = model[1]
    with torch.no_grad():
        norm.weight[1] = 0.0  # type: ignore[index,union-attr,operator]
        norm.bias[1] = 1e6  # type: ignore[index,union-attr,operator]  # 1e9 steps of the other channels' scale
    codeq.freeze(model)
    report, tensors = export(model.eval(), tmp_path / "net.onnx")
    assert report.verdict.ok
    assert tensors["0.bias_quantized"][1] == pytest.approx(2**24, abs=1)
    assert not tensors["0.weight_quantized"][1].any()


@pytest.mark.parametrize("high", [6.0, 0.5])
def test_a_clamp_goes_where_saturation_does_the_same(high: float, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 1), nn.Hardtanh(0.0, high), nn.Conv2d(4, 2, 1))
    codeq.attach(model, bits=4)
    codeq.freeze(model)
    report, _ = export(model.eval(), tmp_path / "net.onnx")
    assert "Clip" not in [node.op_type for node in onnx.load(tmp_path / "net.onnx").graph.node]
    assert [kernel.kernel for kernel in report.kernels] == ["QLinearConv", "QLinearConv"]


def test_a_clamp_that_saturation_does_not_do_stays(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 1), nn.Hardtanh(0.0, 0.25), nn.Conv2d(4, 2, 1))
    codeq.attach(model, bits=4)
    codeq.freeze(model)
    wide = {name: ActivationEncoding(0.0625, 16) for name in ("input", "0", "2")}
    report, _ = export(model.eval(), tmp_path / "net.onnx", activation_encodings=wide)
    assert "Clip" in [node.op_type for node in onnx.load(tmp_path / "net.onnx").graph.node]
    assert report.verdict.ok
    assert report.kernels[0].reason == "onnxruntime made no QLinearConv of it"


@pytest.mark.parametrize("pattern", ["fc", "Linear", "re:f.*"])
def test_excluded_layers_compute_in_float(pattern: str, tmp_path: Path) -> None:
    report, tensors = export(net(), tmp_path / "net.onnx", activations_except=[pattern])
    kernels = {kernel.name: (kernel.kernel, kernel.reason) for kernel in report.kernels}
    assert kernels["fc"] == ("float", "excluded")
    assert tensors["fc.bias"].dtype == np.float32
    assert report.verdict.ok
    assert report.activations is not None
    assert report.activations.exclude == (pattern,)


def test_a_layer_with_a_float_weight_keeps_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1))
    codeq.attach(model, bits=4, exclude="1")
    codeq.freeze(model)
    report, tensors = export(model.eval(), tmp_path / "net.onnx")
    # onnxruntime quantizes such a weight by itself if it is let: then this verdict is not ok.
    assert report.verdict.ok
    np.testing.assert_array_equal(tensors["1.weight"], model[1].weight.detach().numpy())  # type: ignore[union-attr,operator]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activations": "int4"}, "activations 'int4', expected one of float32, int8"),
        ({"ranges": "max"}, "ranges 'max', expected one of mse, percentile, min-max"),
        ({"activations_except": ["nothing"]}, "--activations-except: 'nothing' matches no layer"),
        ({"activations_except": ["conv", "fc"]}, "no layer can compute in integers"),
        (
            {"activation_encodings": {"input": ActivationEncoding(1.0, 0)}},
            "conv has no activation scale; choose ranges",
        ),
        (
            {"activation_encodings": {n: ActivationEncoding(1.0, 0) for n in ("input", "conv", "amax", "old")}},
            "the network has no activation 'old', for which training stored a scale",
        ),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=message):
        export(net(), tmp_path / "net.onnx", **options)
    assert list(tmp_path.iterdir()) == []


def test_the_papers_grid_has_no_integer_kernels(tmp_path: Path) -> None:
    model = plain_net()
    codeq.attach(model, bits=4, grid="paper")
    with pytest.raises(ExportError, match=r"no layer can compute in integers \(conv: its weight has a shift"):
        export(model.eval(), tmp_path / "net.onnx")


def test_a_fixed_batch_and_external_data(tmp_path: Path) -> None:
    report, _ = export(net(), tmp_path / "fixed.onnx", dynamic_batch=False)
    assert report.verdict.ok
    report = export_onnx(
        net(), (X[:2],), tmp_path / "net.onnx", activations="int8", calibration=X, external_data_threshold=0
    )
    assert report.verdict.ok


@pytest.mark.full
def test_two_exports_are_byte_identical(tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        export(net(), tmp_path / name)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_grid_limit_63_needs_no_session_option(tmp_path: Path) -> None:
    for limit, safe in ((63, True), (127, False)):
        model = plain_net()
        codeq.attach(model, bits=8, grid_limit=limit)
        codeq.freeze(model)
        report, tensors = export(model.eval(), tmp_path / f"{limit}.onnx")
        assert report.activations is not None
        assert report.details.safe_without_vnni == safe
        assert (
            "session.x64quantprecision" in metadata_of(onnx.load(tmp_path / f"{limit}.onnx"))["session_options"]
        ) != safe
        assert (np.abs(tensors["conv.weight_quantized"]).max() <= 63) == safe
        assert ("no pair of products saturates" in str(report)) == safe


def test_a_resize_that_has_a_grid_of_its_own_keeps_it(tmp_path: Path) -> None:
    """As checkpoints and files have it from before a resize took its input's; LiteRT then computes it in float."""
    model = Net(
        lambda m, x: m.two(F.interpolate(m.one(x), scale_factor=2, mode="bilinear")),
        one=nn.Conv2d(2, 3, 1),
        two=nn.Conv2d(3, 2, 1),
    )
    codeq.attach(model, bits=4)
    codeq.freeze(model.eval())
    scales = {"input": 0.03, "one": 0.02, "upsample_bilinear2d": 0.015, "two": 0.02}
    grids = {name: ActivationEncoding(float(np.float32(scale)), 120) for name, scale in scales.items()}
    report, tensors = export(model, tmp_path / "net.onnx", activation_encodings=grids)
    assert report.verdict.ok
    assert tensors["upsample_bilinear2d_scale"] == np.float32(0.015)
    pytest.importorskip("ai_edge_litert", reason="LiteRT is an extra")
    found = export_tflite(model, (X[:2],), tmp_path / "net.tflite", activations="int8", activation_encodings=grids)
    assert found.verdict.ok
    assert {kernel.name: kernel.kernel for kernel in found.kernels}["upsample_bilinear2d"] == "float"
