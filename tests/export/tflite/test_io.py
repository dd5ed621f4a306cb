"""Files that take and give codes, and what stays float in them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from export.tflite.options import check_options

TWO = {"one": nn.Conv2d(3, 4, 3), "two": nn.Conv2d(4, 4, 1)}


def test_inputs_are_codes(export: Any, tmp_path: Path) -> None:
    """Fed the codes of its quantizer, the file computes what the one that takes floats does."""
    from export.tflite.file.flatbuffer import read
    from export.tflite.run import XNNPACK, run_file

    def forward(m: Any, x: Any) -> Any:
        return m.two(F.relu(m.one(x)))

    x = torch.randn(3, 3, 9, 7)
    floats = export(forward, (3, 9, 7), "int8", **TWO)
    (expected,) = run_file(floats.path.read_bytes(), [x], 3, XNNPACK)
    report = export(forward, (3, 9, 7), "int8", io="int8", **TWO)
    assert set(report.operators) == {"TRANSPOSE", "CONV_2D", "RESHAPE"}
    data = report.path.read_bytes()
    subgraph = read(data).subgraphs[0]
    grid = subgraph.tensors[subgraph.inputs[0]].quantization
    steps = x / float(grid.scale[0]) + int(grid.zeroPoint[0])
    (found,) = run_file(data, [steps.round().clamp(-128, 127).to(torch.int8)], 3, XNNPACK)
    grid = subgraph.tensors[subgraph.outputs[0]].quantization
    assert found.dtype == np.int8
    assert np.array_equal((found.astype(np.float32) - float(grid.zeroPoint[0])) * grid.scale[0], expected)
    assert read(data).signatureDefs[0].inputs[0].name in (b"input", b"x")


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_layouts(export: Any, layout: str) -> None:
    report = export(lambda m, x: m.two(m.one(x)), (3, 9, 7), "int8", io="int8", layout=layout, flat=False, **TWO)
    assert ("TRANSPOSE" in report.operators) == (layout == "nchw")
    assert "QUANTIZE" not in report.operators
    assert "DEQUANTIZE" not in report.operators
    assert not report.notes


def test_a_last_linear_layer_stays_float(export: Any) -> None:
    report = export(
        lambda m, x: m.fc(F.relu(m.conv(x)).flatten(1)),
        (3, 9, 7),
        "int8",
        conv=nn.Conv2d(3, 5, 3),
        fc=nn.Linear(175, 4),
        io="int8",
    )
    assert report.operators.get("QUANTIZE", 0) == 0
    assert report.notes == ("output stays float32: it is not computed on codes",)
    assert "note                  output stays float32" in str(report)


def test_a_first_layer_that_stays_float(export: Any) -> None:
    def forward(m: Any, x: Any) -> Any:
        return m.two(F.relu(m.one(x)))

    report = export(forward, (3, 9, 7), "int8", io="int8", exclude=("one",), **TWO)
    assert report.notes == ("input stays float32: it is read as floats",)


def test_nothing_is_codes(refused: Any) -> None:
    reason = refused(
        lambda m, x: m.fc(m.two(m.one(x)).flatten(1)),
        (3, 9, 7),
        "int8",
        **TWO,
        fc=nn.Linear(140, 4),
        exclude=("one", "fc"),
        io="int8",
    )
    assert reason.startswith("--io int8: ")
    assert reason.endswith("use --io float")


GOOD = {
    "backend": "writer",
    "layout": "nchw",
    "io": "float",
    "sparse": "auto",
    "int4": False,
    "hybrid": False,
    "activations": "float32",
}
CONTRADICTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "codes of floats": ({"io": "int8"}, "--io int8: .* found --activations float32; use --activations int8"),
    "hybrid codes": ({"hybrid": True, "activations": "int8"}, "--hybrid: .* found --activations int8.*leave --hybrid"),
    "layout": ({"layout": "chw"}, "layout 'chw', expected one of nchw, nhwc"),
    "io": ({"io": "uint8"}, "io 'uint8', expected one of float, int8"),
    "sparse": ({"sparse": "on"}, "sparse 'on', expected one of auto, off"),
}


@pytest.mark.parametrize(("options", "reason"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_contradictions(options: dict[str, Any], reason: str) -> None:
    from export.errors import ExportError

    with pytest.raises(ExportError, match=reason):
        check_options(**(GOOD | options))


def test_what_goes_together() -> None:
    check_options(**GOOD)
    check_options(**(GOOD | {"io": "int8", "activations": "int8"}))
    check_options(**(GOOD | {"hybrid": True}))
