"""Codes are recovered from values alone, bit for bit, whatever tool made them; all else is refused in one line."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

import codeq
from codeq.adopt.recovered import NoGridError, find_grid, load_quantized
from codeq.quantizer.attach import quantized_weights
from tests.codeq.adopt.others import LearnedStep, descend, qconfig, train_with_ao, train_with_ao_fx
from tests.stock_session import stock_session

CODES = torch.randint(-127, 128, (8, 24), generator=torch.Generator().manual_seed(0))


def linear(values: Tensor) -> nn.Sequential:
    model = nn.Sequential(nn.Linear(values.shape[1], values.shape[0]))
    model[0].weight.data = values
    return model


def weight(model: nn.Module, name: str = "0.weight") -> Tensor:
    layer, _, tensor = name.rpartition(".")
    found: Tensor = getattr(model.get_submodule(layer), tensor).detach()
    return found


@pytest.mark.parametrize("top", [1, 3, 7, 15, 31, 63, 127])
def test_one_scale(top: int) -> None:
    codes = CODES.clamp(-top, top)
    values = codes.float() * 0.0123
    model = linear(values.clone())
    report = codeq.recover(model)
    (row,) = report.weights
    assert (row.granularity, row.grid, row.steps_off) == ("tensor", "integer", 0)
    assert row.bits == max(2, top.bit_length() + 1)
    encoding = codeq.encode(model)["0.weight"]
    assert torch.equal(encoding.codes.float() * encoding.scale, values)
    assert torch.equal(encoding.codes.long(), codes)
    assert torch.equal(weight(model), values)
    assert report.exact


def test_a_scale_for_each_channel_and_a_channel_of_zeros() -> None:
    scale = torch.rand(8, 1) + 0.1
    codes = CODES.clone()
    codes[3] = 0
    values = codes.float() * scale
    model = linear(values.clone())
    (row,) = codeq.recover(model).weights
    assert row.granularity == "channel"
    encoding = codeq.encode(model)["0.weight"]
    assert encoding.axis == 0
    assert torch.equal(encoding.dequantize(), values)
    assert float(encoding.scale[3]) == float(encoding.scale.min())
    assert torch.equal(weight(model), values)


def test_transposed_convolutions_have_their_channels_on_axis_1() -> None:
    layer = nn.ConvTranspose2d(4, 6, 3)
    scale = (torch.rand(6) + 0.1).reshape(1, 6, 1, 1)
    layer.weight.data = (layer.weight.data / scale * 50).round() * scale
    values = layer.weight.detach().clone()
    model = nn.Sequential(layer)
    codeq.recover(model)
    encoding = codeq.encode(model)["0.weight"]
    assert encoding.axis == 1
    assert torch.equal(encoding.dequantize(), values)


@pytest.mark.parametrize(("multiplier", "offset"), [(1, 4), (2, 3), (4, -1), (3, 0)])
def test_a_grid_with_a_shift_has_fewer_levels(multiplier: int, offset: int) -> None:
    levels = CODES.clamp(-7, 7)
    values = (multiplier * levels + offset * levels.sign()).float() * 0.031
    model = linear(values)
    (row,) = codeq.recover(model).weights
    assert row.bits == 4
    encoding = codeq.encode(model)["0.weight"]
    assert encoding.quant_max == 7
    assert torch.equal(encoding.levels.long(), levels)
    assert torch.equal(encoding.dequantize(), values)


def test_a_weight_of_zeros() -> None:
    model = linear(torch.zeros(4, 4))
    (row,) = codeq.recover(model).weights
    assert (row.bits, row.sparsity) == (2, 1.0)
    assert not bool(weight(model).any())


def test_a_learned_step_of_ones_own() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 4))
    for layer, bits in ((model[0], 4), (model[2], 8)):
        per_channel = layer.weight.detach().abs().amax(1, keepdim=True) / 2 ** (bits - 1)
        parametrize.register_parametrization(layer, "weight", LearnedStep(per_channel, bits))
    for _ in range(5):
        model(torch.randn(8, 32)).square().mean().backward()
        descend(model, 1e-3)
    expected = [weight(model, name) for name in ("0.weight", "2.weight")]
    report = codeq.recover(model)
    assert 3 <= report.weights[0].bits <= 4
    assert 5 <= report.weights[1].bits <= 8
    assert len(report.baked) == 2
    for name, values in zip(("0.weight", "2.weight"), expected, strict=True):
        assert torch.equal(weight(model, name), values)


def test_a_float_network_is_refused_in_one_line_and_stays_plain() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 4))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(codeq.RecoverError) as caught:
        codeq.recover(model)
    text = str(caught.value)
    assert re.fullmatch(r"0\.weight lies on no grid of 8 bits: channel \d has values up to 0\.4\d* steps off, .*", text)
    assert text.endswith("leave it out with exclude (and 1 more)")
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_refused_network_of_torch_ao_is_left_plain_and_without_hooks() -> None:
    theirs = train_with_ao(qconfig(per_channel=True, quant_min=-128), steps=2)
    with pytest.raises(codeq.RecoverError, match="codes of -128"):
        codeq.recover(theirs, (torch.randn(2, 3, 8, 8),))
    assert not any(module._forward_hooks for module in theirs.modules())
    assert not list(quantized_weights(theirs))


def test_layers_that_are_left_out_stay_float() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    model[1].weight.data = CODES[:, :8].float() * 0.5
    report = codeq.recover(model, exclude="0")
    assert [row.name for row in report.weights] == ["1.weight"]
    assert report.float_weights == {"0.weight": "excluded"}
    with pytest.raises(codeq.AttachError, match="has quantizers already"):
        codeq.recover(model)


def test_codes_of_minus_128_are_refused_or_snapped() -> None:
    codes = CODES.clone()
    codes[0, 0], codes[1, 1] = -128, 127
    values = codes.float() * 0.01
    with pytest.raises(NoGridError, match=r"has 1 codes of -128, and files hold codes up to 127; .*quant_min=-127"):
        find_grid(values, 0)
    model = linear(values.clone())
    report = codeq.recover(model, snap=True)
    assert report.weights[0].steps_off == pytest.approx(1.0)
    assert not report.exact
    codes[0, 0] = -127
    assert torch.equal(weight(model), codes.float() * 0.01)


def test_codes_of_a_zero_point_are_refused_with_the_reason() -> None:
    values = (torch.arange(256).reshape(8, 32) - 30).float() * 0.01
    for snap in (False, True):
        with pytest.raises(NoGridError, match="has codes from -30 to 225, those of a zero point: int8 codes"):
            find_grid(values, 0, snap=snap)
    narrow = (torch.arange(16).reshape(1, 16) - 3).float() * 0.01  # 4 bits with a zero point fit
    assert find_grid(narrow, 0).quant_max == 12


def test_a_rounding_error_is_refused_with_the_way_out_or_snapped() -> None:
    w = torch.randn(8, 24, generator=torch.Generator().manual_seed(0))
    exact = (w / 0.1).round().clamp(-7, 7) * 0.1
    values = w + (exact - w)
    assert not torch.equal(values, exact)
    with pytest.raises(NoGridError, match=r"is off its grid by rounding, up to \de-\d\d steps, as w \+ "):
        find_grid(values, 0)
    model = linear(values)
    report = codeq.recover(model, snap=True)
    assert 0 < report.weights[0].steps_off < 1e-4
    assert torch.allclose(weight(model), exact, atol=1e-6)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.full((2, 2), torch.nan), "has NaN or infinite entries"),
        (torch.ones(2, 2).half(), "is torch.float16, expected torch.float32"),
    ],
    ids=["NaN", "half"],
)
def test_values_of_another_kind(values: Tensor, message: str) -> None:
    with pytest.raises(NoGridError, match=message):
        find_grid(values, 0)


@pytest.mark.slow("quantization-aware training of torch.ao, and two exports each")
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "not fused"])
@pytest.mark.parametrize("per_channel", [True, False], ids=["channel", "tensor"])
@pytest.mark.full
def test_torch_ao_to_files(per_channel: bool, fused: bool, tmp_path: Path) -> None:
    """Weights are what its modules compute with; with all fused, the int8 file computes what they simulate."""
    from export import export_onnx, export_tflite

    theirs = train_with_ao(qconfig(per_channel=per_channel), fused=fused)
    seen: dict[str, Tensor] = {}
    for name, module in theirs.named_modules():
        if hasattr(module, "weight_fake_quant"):
            module.weight_fake_quant.register_forward_hook(
                lambda _, inputs, output, name=name: seen.update({name: output})
            )
    theirs.fc._forward_hooks.clear()  # type: ignore[union-attr]  # logits stay float in files
    x = torch.randn(8, 3, 8, 8)
    expected = theirs(x).detach()
    report = codeq.recover(theirs, (x,))
    for quantized in quantized_weights(theirs):
        assert torch.equal(weight(theirs, quantized.name), seen[quantized.name.removesuffix(".weight").split(".")[0]])
    assert {row.granularity for row in report.weights} == {"channel" if per_channel else "tensor"}
    assert report.activations is not None
    for export, suffix in ((export_onnx, "onnx"), (export_tflite, "tflite")):
        assert export(theirs, (x,), tmp_path / f"a.{suffix}").verdict.ok
        file = tmp_path / f"int8.{suffix}"
        assert export(theirs, (x,), file, activations="int8", activation_encodings=report.activations).verdict.ok
    session = stock_session(tmp_path / "int8.onnx")
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    if fused:
        assert np.abs(found - expected.numpy()).max() < 1e-4
    else:  # BatchNorm's input is quantized there too, and files fold it
        assert np.abs(found - expected.numpy()).max() < 0.2


@pytest.mark.slow("quantization-aware training by torch.fx, and two exports")
def test_graph_modules_of_torch_ao_to_files(tmp_path: Path) -> None:
    from export import export_onnx, export_tflite

    theirs = train_with_ao_fx(qconfig(per_channel=True))
    x = torch.randn(4, 3, 8, 8)
    report = codeq.recover(theirs, x)
    assert report.exact
    assert report.activations is not None
    scales = report.activations
    for export, file in ((export_onnx, "a.onnx"), (export_tflite, "a.tflite")):
        assert export(theirs, (x,), tmp_path / file, activations="int8", activation_encodings=scales).verdict.ok


def test_what_torch_ao_saves_is_loaded_into_a_network_that_was_prepared_alike() -> None:
    theirs = train_with_ao(qconfig(per_channel=True), steps=1)
    fresh = train_with_ao(qconfig(per_channel=True), steps=0)
    load_quantized(fresh, theirs.state_dict(), Path("qat.pt"))
    for name, value in theirs.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], value)
    for model, state, message in (
        (fresh, {"other": torch.ones(1)}, r"qat\.pt: does not fit ForAo: Missing key"),
        (nn.Sequential(nn.Linear(2, 2)), theirs.state_dict(), "of a network with fake quantizers, and Sequential has"),
        (fresh, theirs.state_dict() | {"fc.bias": torch.full((10,), torch.nan)}, "fc.bias has NaN"),
    ):
        with pytest.raises(codeq.CheckpointError, match=message) as caught:
            load_quantized(model, state, Path("qat.pt"))
        assert "\n" not in str(caught.value)
