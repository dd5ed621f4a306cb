"""Float layers on codes of weights: exact weights, approximate outputs, and the layers that are left to floats."""

from typing import Any

import numpy as np
import pytest
import torch.nn.functional as F
from torch import nn

LAYERS: dict[str, tuple[nn.Module, tuple[int, ...], str]] = {
    "plain": (nn.Conv2d(3, 5, 3), (3, 9, 7), "hybrid CONV_2D"),
    "stride 2": (nn.Conv2d(3, 5, 3, stride=2, padding=1), (3, 8, 9), "hybrid CONV_2D"),
    "unequal": (nn.Conv2d(3, 5, (3, 1), stride=(1, 2), padding=(2, 0)), (3, 6, 9), "hybrid CONV_2D"),
    "dilated": (nn.Conv2d(3, 5, 3, dilation=2, padding=2), (3, 9, 7), "hybrid CONV_2D"),
    "one channel": (nn.Conv2d(1, 1, 3, padding=1), (1, 9, 7), "hybrid CONV_2D"),
    "grouped": (nn.Conv2d(4, 6, 3, groups=2), (4, 9, 7), "hybrid CONV_2D"),
    "sequence": (nn.Conv1d(4, 6, 5, stride=2, padding=2), (4, 11), "hybrid CONV_2D"),
    "linear": (nn.Linear(33, 5), (33,), "hybrid FULLY_CONNECTED"),
}


@pytest.mark.parametrize("int4", [False, True])
@pytest.mark.parametrize(("layer", "shape", "reader"), LAYERS.values(), ids=LAYERS)
def test_layers(export: Any, layer: nn.Module, shape: tuple[int, ...], reader: str, int4: bool) -> None:
    report = export(lambda m, x: m.layer(x), shape, layer=layer, hybrid=True, int4=int4, grid_limit=7)
    assert report.weights[0].lowering == reader
    assert report.weights[0].storage == ("int4" if int4 else "int8")
    assert "DEQUANTIZE" not in report.details.operators
    assert report.verdict.approximate
    # A step of the largest activation in 255, in each of some ten products: 1 % of the result.
    assert all(0 < check.max_abs_error < 0.02 * check.tolerance / 0.25 for check in report.verdict.outputs)


def test_a_scale_of_the_whole_tensor_is_repeated(export: Any) -> None:
    """LiteRT's own kernels of grouped convolutions refuse one scale."""
    report = export(lambda m, x: m.conv(x), (4, 9, 7), conv=nn.Conv2d(4, 6, 3, groups=2), hybrid=True)
    assert report.weights[0].size_bytes == 6 * 2 * 9 + 4 * 6
    assert {check.setting for check in report.verdict.outputs} == {"xnnpack", "builtin"}


@pytest.mark.parametrize(
    ("int4", "versions"),
    [
        (False, {"CONV_2D": 5, "FULLY_CONNECTED": 12}),
        (True, {"CONV_2D": 7, "FULLY_CONNECTED": 12}),
    ],
)
def test_versions(export: Any, int4: bool, versions: dict[str, int]) -> None:
    """Those that know the operands: an older runtime is to refuse the file, not to misread it."""
    from export.tflite.file.flatbuffer import read
    from export.tflite.runtime import schema

    layers = {"conv": nn.Conv2d(3, 5, 3), "fc": nn.Linear(175, 4)}
    report = export(lambda m, x: m.fc(m.conv(x).flatten(1)), (3, 9, 7), hybrid=True, int4=int4, grid_limit=7, **layers)
    model = read(report.path.read_bytes())
    codes = {code.builtinCode: code.version for code in model.operatorCodes}
    assert {name: codes[getattr(schema().BuiltinOperator, name)] for name in versions} == versions
    # LiteRT's own linear kernels are twice as exact with a zero point.
    (linear,) = (
        operator for operator in model.subgraphs[0].operators if hasattr(operator.builtinOptions, "keepNumDims")
    )
    assert linear.builtinOptions.asymmetricQuantizeInputs


def test_what_is_said(export: Any) -> None:
    report = export(lambda m, x: m.conv(x), (3, 9, 7), conv=nn.Conv2d(3, 5, 3), hybrid=True)
    assert "approximate (hybrid): outputs off by" in str(report)
    assert "argmax differs on" in " ".join(str(report.verdict).split())
    assert "1 by hybrid CONV_2D, exact" in str(report)
    assert report.to_dict()["parity"]["approximate"]


def test_depthwise_convolutions_stay_floats(export: Any) -> None:
    report = export(
        lambda m, x: m.two(F.relu(m.one(x))),
        (4, 9, 7),
        one=nn.Conv2d(4, 4, 3, groups=4),
        two=nn.Conv2d(4, 5, 1),
        hybrid=True,
    )
    assert [weight.lowering for weight in report.weights] == ["DEQUANTIZE", "hybrid CONV_2D"]
    assert report.notes[0] == "not hybrid: one.weight: LiteRT computes its layer faster on floats"


def test_zeros_stay_where_codes_are_read(export: Any) -> None:
    layers = {"one": nn.Conv2d(256, 256, 3, groups=256), "two": nn.Conv2d(256, 64, 1)}
    report = export(lambda m, x: m.two(m.one(x)), (256, 5, 5), hybrid=True, zeros=0.9, **layers)
    assert [weight.storage for weight in report.weights] == ["CSR", "int8"]


def test_a_shift_is_no_code(refused: Any) -> None:
    reason = refused(lambda m, x: m.conv(x), (3, 9, 7), conv=nn.Conv2d(3, 5, 3), hybrid=True, grid="paper")
    assert reason.startswith("--hybrid does nothing here: conv.weight: it has a shift (paper's grid), or")
    assert reason.endswith("; leave --hybrid out")


def test_a_wrong_kernel_is_seen(export: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from export.parity.verdict import ParityError
    from export.tflite import verify

    def negate(*arguments: Any) -> list[np.ndarray]:
        return [-values for values in run_batches(*arguments)]

    run_batches = verify.run_batches
    monkeypatch.setattr(verify, "run_batches", negate)
    with pytest.raises(ParityError, match=r"output at xnnpack, batch 1: off by .*, above"):
        export(lambda m, x: m.conv(x), (3, 9, 7), conv=nn.Conv2d(3, 5, 3), hybrid=True)
