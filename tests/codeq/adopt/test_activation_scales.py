"""Scales of other tools' activation quantizers come along where their grid is ours, under the names of ours."""

from typing import Any

import pytest
import torch
import torch.ao.quantization as ao
from torch import Tensor, nn

import codeq
from codeq.adopt.activation_scales import encoding_of
from tests.codeq.adopt.others import qconfig, train_with_ao

INPUTS = (torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)),)


def fake_quantize(scale: float, zero_point: int, low: int = 0, high: int = 255, **observer: Any) -> nn.Module:
    dtype = torch.quint8 if low == 0 else torch.qint8
    made = ao.FakeQuantize(ao.MinMaxObserver, quant_min=low, quant_max=high, dtype=dtype, **observer)
    made.scale.fill_(scale)
    made.zero_point.fill_(zero_point)
    return made


@pytest.mark.parametrize(
    ("quantizer", "expected"),
    [
        (fake_quantize(0.5, 3), (0.5, 3)),
        (fake_quantize(0.25, 255), (0.25, 255)),
        (fake_quantize(0.5, -128, -128, 127), (0.5, 0)),
        (fake_quantize(0.5, 7, -128, 127), (0.5, 135)),
    ],
)
def test_grids_of_256_codes_are_ours(quantizer: nn.Module, expected: tuple[float, int]) -> None:
    encoding = encoding_of(quantizer)
    assert (encoding.scale, encoding.zero_point) == expected
    x = torch.linspace(-80, 200, 999)
    ours = (encoding.quantize(x).float() - encoding.zero_point) * encoding.scale
    assert torch.equal(ours, quantizer.eval().apply(ao.disable_observer)(x))


class Proxy(nn.Module):
    """As Brevitas' proxies of activation quantizers: scale, zero point and bits are calls."""

    def __init__(self, scale: float | None, bits: float, *, is_signed: bool, is_narrow_range: bool = False) -> None:
        super().__init__()
        self._scale = None if scale is None else torch.tensor(scale)
        self._bits, self.is_signed, self.is_narrow_range = torch.tensor(bits), is_signed, is_narrow_range

    def scale(self) -> Tensor | None:
        return self._scale

    def zero_point(self) -> Tensor:
        return torch.tensor(0.0)

    def bit_width(self) -> Tensor:
        return self._bits


def test_grids_of_brevitas() -> None:
    assert encoding_of(Proxy(0.5, 8, is_signed=True)) == codeq.ActivationEncoding(0.5, 128)
    assert encoding_of(Proxy(0.5, 8, is_signed=False)) == codeq.ActivationEncoding(0.5, 0)
    for proxy, message in (
        (Proxy(0.5, 4, is_signed=False), "codes from 0 to 15, expected"),
        (Proxy(0.5, 8, is_signed=True, is_narrow_range=True), "codes from -127 to 127, expected"),
        (Proxy(None, 8, is_signed=True), "it has no scale of its own"),
    ):
        with pytest.raises(ValueError, match=message):
            encoding_of(proxy)


def switched_off() -> nn.Module:
    made = fake_quantize(0.5, 3)
    made.fake_quant_enabled[0] = 0  # type: ignore[operator,index]
    return made


class FakeQuantizerBase(nn.Module):
    """Stands for torchao's class of this name, whose scale is computed in every call."""

    scale: Tensor | None = None


@pytest.mark.parametrize(
    ("quantizer", "message"),
    [
        (fake_quantize(0.5, 3, 0, 127), "codes from 0 to 127, expected 0 to 255 or -128 to 127"),
        (ao.MinMaxObserver(), "an observer, which has seen values but quantizes none"),
        (switched_off(), "it is switched off"),
        (FakeQuantizerBase(), "its scale is computed anew for every input"),
    ],
    ids=["127", "observer", "off", "dynamic"],
)
def test_other_grids_are_not(quantizer: nn.Module, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encoding_of(quantizer)


@pytest.mark.slow("a network is traced")
def test_scales_of_a_prepared_network_have_our_names() -> None:
    theirs = train_with_ao(qconfig(per_channel=True), steps=2)
    wanted = {
        name: encoding_of(theirs.get_submodule(place))
        for name, place in {
            "input": "quant.activation_post_process",
            "conv.0": "conv.activation_post_process",
            "conv2": "conv2.activation_post_process",
            "add": "sum.activation_post_process",
        }.items()
    }
    report = codeq.recover(theirs, INPUTS)
    assert report.activations == wanted
    assert report.notes == ("1 activation quantizer left out: of values that files keep in float, outputs above all",)
    quantized = codeq.QuantizedActivations(theirs, INPUTS)
    assert set(quantized.plan.grids) == set(wanted)


@pytest.mark.slow("a network is traced")
def test_where_one_is_missing_none_is_taken_and_it_is_named() -> None:
    theirs = train_with_ao(qconfig(per_channel=True), steps=2)
    theirs.conv2.activation_post_process.fake_quant_enabled[0] = 0  # type: ignore[union-attr,operator,index]
    report = codeq.recover(theirs, INPUTS)
    assert report.activations is None
    assert "conv2.activation_post_process: it is switched off" in report.notes
    assert "no usable scale for conv2: 1 of 4 activations; calibrate all of them" in report.notes
    assert str(report).count("note  ") == 3


def test_without_inputs_scales_are_not_read() -> None:
    report = codeq.recover(train_with_ao(qconfig(per_channel=False), steps=1))
    assert (report.activations, report.notes) == (None, ())


def test_a_plain_network_has_none() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    model[0].weight.data = torch.randint(-7, 8, (4, 4)) * 0.5
    report = codeq.recover(model, (torch.randn(2, 4),))
    assert (report.activations, report.notes) == (None, ())
