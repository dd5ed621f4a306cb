"""Two codes a byte: by LiteRT where it computes exactly on them."""

from typing import Any

import pytest
import torch.nn.functional as F
from torch import nn

from tests.export.tflite.kernels import on_codes

LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "plain": (nn.Conv2d(3, 5, 3), (3, 9, 7)),
    "stride 2": (nn.Conv2d(3, 5, 3, stride=2, padding=1), (3, 8, 9)),
    "odd number of codes": (nn.Conv2d(1, 1, 3, padding=1), (1, 9, 7)),
    "dilated": (nn.Conv2d(3, 5, 3, dilation=2, padding=2), (3, 9, 7)),
    "grouped": (nn.Conv2d(4, 6, 3, groups=2), (4, 9, 7)),
    "depthwise": (nn.Conv2d(4, 8, 3, groups=4), (4, 9, 7)),
}


@pytest.mark.parametrize(("layer", "shape"), LAYERS.values(), ids=LAYERS)
def test_layers(export: Any, layer: nn.Module, shape: tuple[int, ...]) -> None:
    report = export(lambda m, x: m.conv(x), shape, conv=layer, grid_limit=7, int4=True)
    assert (report.weights[0].storage, report.weights[0].lowering) == ("int4", "DEQUANTIZE")
    assert report.weights[0].size_bytes == (layer.weight.numel() + 1) // 2 + 4
    assert "1 by DEQUANTIZE, exact" in str(report)
    assert str(report).splitlines()[2].split()[-1] == "int4"


def test_the_version_that_knows_four_bits(export: Any) -> None:
    from export.tflite.file.flatbuffer import read
    from export.tflite.runtime import schema

    report = export(lambda m, x: m.conv(x), (3, 9, 7), conv=nn.Conv2d(3, 5, 3), grid_limit=7, int4=True)
    codes = {code.builtinCode: code.version for code in read(report.path.read_bytes()).operatorCodes}
    assert codes[schema().BuiltinOperator.DEQUANTIZE] == 6


def test_a_scale_per_channel(export: Any) -> None:
    layers = {"conv": nn.Conv2d(3, 5, 3), "norm": nn.BatchNorm2d(5)}
    report = export(lambda m, x: m.norm(m.conv(x)), (3, 9, 7), grid_limit=7, int4=True, **layers)
    assert report.folded_batch_norms == 1
    assert report.weights[0].storage == "int4"


def test_the_paper_s_grid(export: Any) -> None:
    report = export(lambda m, x: m.conv(x), (3, 9, 7), grid="paper", int4=True, conv=nn.Conv2d(3, 5, 3))
    assert report.weights[0].storage == "int4"


def test_linear_layers_on_codes(export: Any) -> None:
    """XNNPACK's linear layers on codes take INT4 weights and round as ever; its convolutions do not take them."""
    report = export(
        lambda m, x: m.three(F.relu(m.two(F.relu(m.one(F.relu(m.conv(x)).flatten(1)))))),
        (3, 9, 7),
        "int8",
        conv=nn.Conv2d(3, 5, 3),
        one=nn.Linear(175, 34),
        two=nn.Linear(34, 20),
        three=nn.Linear(20, 5),
        grid_limit=7,
        int4=True,
    )
    kernels = on_codes(report)
    assert kernels["one"] == kernels["two"] == "FULLY_CONNECTED"
    assert [weight.storage for weight in report.weights] == ["int8", "int8", "int4", "int4"]
    assert not sum(check.differing for check in report.verdict.codes)
    assert (report.weights[2].storage, report.weights[2].lowering) == ("int4", "FULLY_CONNECTED")
    assert "2 by FULLY_CONNECTED, exact" in str(report)
    assert report.notes == (
        "not int4: conv.weight: CONV_2D does not compute exactly on INT4 codes",
        "not int4: one.weight: FULLY_CONNECTED does not compute exactly on INT4 codes of an odd number of inputs",
    )


@pytest.mark.parametrize(
    ("layer", "shape"), [(nn.Conv2d(3, 64, 3), (3, 9, 7)), (nn.Linear(175, 64), (175,))], ids=["conv", "odd linear"]
)
def test_what_is_left_out_would_round_otherwise(
    export: Any, monkeypatch: pytest.MonkeyPatch, layer: nn.Module, shape: tuple[int, ...]
) -> None:
    """Where a new LiteRT passes here, it need not be left out."""
    from export.parity.verdict import ParityError
    from export.tflite.weights import form as weight_form

    monkeypatch.setattr(weight_form, "_refuse_int4", lambda codes, reader: "")
    with pytest.raises(ParityError, match=r"one at xnnpack .* codes differ from the integer reference, by up to 1"):
        export(lambda m, x: F.relu(m.one(x)) * 0.5, shape, "int8", one=layer, grid_limit=7, int4=True)


def test_the_smaller_of_both(export: Any) -> None:
    report = export(lambda m, x: m.conv(x), (16, 9, 7), conv=nn.Conv2d(16, 64, 3), grid_limit=7, int4=True, zeros=0.9)
    assert report.weights[0].storage == "CSR"
    assert not [note for note in report.notes if "int4" in note]


def test_no_weight_fits(refused: Any) -> None:
    reason = refused(lambda m, x: m.conv(x), (3, 9, 7), conv=nn.Conv2d(3, 5, 3), int4=True, zeros=0.5)
    assert reason.startswith("--int4 does nothing here: conv.weight: codes from ")
    assert reason.endswith("expected -8 to 7 for INT4; leave --int4 out, or train with --bits 4 --grid-limit 7")


def test_no_layer_reads_it(refused: Any) -> None:
    reason = refused(lambda m, x: m.conv(x), (3, 9, 7), "int8", conv=nn.Conv2d(3, 5, 3), grid_limit=7, int4=True)
    assert "conv.weight: CONV_2D does not compute exactly on INT4 codes" in reason
