"""Padding, clamps, norms and rearranged pixels around convolutions; tests/cases.py has convolutions by themselves."""

from typing import Any

import pytest
import torch.nn.functional as F
from torch import nn

from tests.export.tflite.kernels import on_codes


@pytest.mark.parametrize("activations", ["float32", "int8"])
def test_a_padding_in_front_is_the_convolution_s(export: Any, activations: str) -> None:
    """The zeros of Keras' "same", which pads the end alone, are SAME: no PAD."""
    report = export(
        lambda m, x: m.conv(F.pad(x, (0, 1, 0, 1))), (3, 8, 8), activations, conv=nn.Conv2d(3, 5, 3, stride=2)
    )
    assert "PAD" not in report.details.operators


@pytest.mark.parametrize("activations", ["float32", "int8"])
def test_a_padding_that_is_read_twice_stays(export: Any, activations: str) -> None:
    def forward(m: Any, x: Any) -> Any:
        padded = F.pad(x, (2, 1, 0, 1))
        return m.conv(padded) + m.other(padded)

    report = export(forward, (3, 8, 8), activations, conv=nn.Conv2d(3, 5, 3), other=nn.Conv2d(3, 5, 3))
    assert report.details.operators["PAD"] == 1


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_axes_of_inputs(export: Any, layout: str) -> None:
    conv = nn.Conv2d(3, 5, 3)
    report = export(lambda m, x: m.conv(x), (3, 9, 7), conv=conv, layout=layout, flat=False)
    assert report.details.operators.get("TRANSPOSE", 0) == (0 if layout == "nhwc" else 2)


def test_clamps_are_fused(export: Any) -> None:
    report = export(
        lambda m, x: F.relu6(m.two(F.hardtanh(m.one(x)))),
        (3, 9, 7),
        one=nn.Conv2d(3, 5, 3),
        two=nn.Conv2d(5, 5, 3),
        flat=False,
    )
    assert set(report.details.operators) == {"TRANSPOSE", "DEQUANTIZE", "CONV_2D"}


def test_the_paper_s_grid(export: Any) -> None:
    report = export(lambda m, x: m.fc(m.conv(x).flatten(1)), (3, 9, 7), grid="paper", conv=nn.Conv2d(3, 5, 3),
                    fc=nn.Linear(175, 3))  # fmt: skip
    assert report.details.operators["SIGN"] == 2
    assert all(check.ok for check in report.verdict.weights)


@pytest.mark.parametrize("groups", [1, 4])
def test_the_paper_s_grid_per_channel(export: Any, groups: int) -> None:
    """A folded BatchNorm gives each channel a shift of its own."""
    layers = {"conv": nn.Conv2d(4, 8, 3, groups=groups), "norm": nn.BatchNorm2d(8)}
    report = export(lambda m, x: m.norm(m.conv(x)), (4, 9, 7), grid="paper", **layers)
    assert report.folded_batch_norms == 1
    assert all(check.ok for check in report.verdict.weights)


def test_batch_norm_is_folded(export: Any) -> None:
    report = export(lambda m, x: F.relu(m.norm(m.conv(x))), (3, 9, 7), "int8", conv=nn.Conv2d(3, 5, 3, bias=False),
                    norm=nn.BatchNorm2d(5))  # fmt: skip
    assert report.folded_batch_norms == 1
    assert on_codes(report) == {"conv": "CONV_2D"}


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize(
    "layer", [nn.Conv2d(3, 4, 7, stride=2, padding=3), nn.Conv2d(1, 4, 5, stride=2), nn.Conv2d(2, 4, (5, 6), 2, (2, 3))]
)
def test_a_first_convolution_is_rearranged(export: Any, layer: nn.Module, layout: str) -> None:
    """Four pixels become channels, in the order in which they lie; the weight in the file follows."""
    shape = (layer.in_channels, 12, 10)
    report = export(
        lambda m, x: m.two(F.relu(m.one(x))),
        shape,
        "int8",
        one=layer,
        two=nn.Conv2d(4, 5, 1),
        layout=layout,
    )
    assert report.details.operators["RESHAPE"] >= 2
    assert on_codes(report)["one"] == "CONV_2D"
    assert all(not check.differing for check in report.verdict.codes if check.name == "one")
    assert all(check.ok for check in report.verdict.weights)


@pytest.mark.parametrize("activations", ["float32", "int8"])
def test_other_first_convolutions_are_not(export: Any, activations: str) -> None:
    layer = nn.Conv2d(3, 4, 7 if activations == "float32" else 3, stride=2)
    report = export(lambda m, x: m.two(m.one(x)), (3, 12, 10), activations, one=layer, two=nn.Conv2d(4, 5, 1),
                    layout="nhwc", flat=False)  # fmt: skip
    assert "RESHAPE" not in report.details.operators
