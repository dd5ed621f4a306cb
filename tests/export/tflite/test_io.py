"""Files that take and give codes, and what stays float in them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import codeq
from export.options import Quantization
from export.runner import run_batches
from export.tflite.options import TfliteRequest

pytest.importorskip("ai_edge_litert", reason="LiteRT is an extra: pip install '.[tflite]'")

from export.tflite.runner import LiteRtRunner

TWO = {"one": nn.Conv2d(3, 4, 3), "two": nn.Conv2d(4, 4, 1)}


def opened(path: Path) -> LiteRtRunner:
    runner = LiteRtRunner(path)
    runner.open()
    return runner


def test_inputs_are_codes(export: Any, tmp_path: Path) -> None:
    """Fed the codes of its quantizer, the file computes what the one that takes floats does."""
    from export.tflite.file.flatbuffer import read
    from export.tflite.run import allocate, open_interpreter

    def forward(m: Any, x: Any) -> Any:
        return m.two(F.relu(m.one(x)))

    x = torch.randn(3, 3, 9, 7)
    floats = export(forward, (3, 9, 7), "int8", **TWO)
    (expected,) = run_batches(opened(floats.path), [x], 3)
    report = export(forward, (3, 9, 7), "int8", io="int8", **TWO)
    assert set(report.details.operators) == {"TRANSPOSE", "CONV_2D", "RESHAPE"}
    data = report.path.read_bytes()
    subgraph = read(data).subgraphs[0]
    grid = subgraph.tensors[subgraph.inputs[0]].quantization
    steps = x / float(grid.scale[0]) + int(grid.zeroPoint[0])
    session = open_interpreter(data)
    session.resize_tensor_input(subgraph.inputs[0], x.shape)
    allocate(session)
    session.set_tensor(subgraph.inputs[0], steps.round().clamp(-128, 127).to(torch.int8).numpy())
    session.invoke()
    found = session.get_tensor(subgraph.outputs[0])
    grid = subgraph.tensors[subgraph.outputs[0]].quantization
    assert found.dtype == np.int8
    assert np.array_equal((found.astype(np.float32) - float(grid.zeroPoint[0])) * grid.scale[0], expected)
    assert read(data).signatureDefs[0].inputs[0].name in (b"input", b"x")
    # The runner takes and gives floats, whatever the file does.
    (decoded,) = run_batches(opened(report.path), [x], 2)
    assert np.array_equal(decoded, expected)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_layouts(export: Any, layout: str) -> None:
    report = export(lambda m, x: m.two(m.one(x)), (3, 9, 7), "int8", io="int8", layout=layout, flat=False, **TWO)
    assert ("TRANSPOSE" in report.details.operators) == (layout == "nchw")
    assert "QUANTIZE" not in report.details.operators
    assert "DEQUANTIZE" not in report.details.operators
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
    assert report.details.operators.get("QUANTIZE", 0) == 0
    assert report.notes == ("output stays float32: it is not computed on codes",)
    assert "note                  output stays float32" in str(report)


def test_a_first_layer_that_stays_float(export: Any) -> None:
    def forward(m: Any, x: Any) -> Any:
        return m.two(F.relu(m.one(x)))

    report = export(forward, (3, 9, 7), "int8", io="int8", exclude=("one",), **TWO)
    assert report.notes == ("input stays float32: it is read as floats",)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_several_inputs_and_outputs(tmp_path: Path, layout: Any) -> None:
    """Each has the grid of its own tensor; a check that reads the file back holds it."""
    from export import check_parity
    from export.tflite import export_tflite
    from export.tflite.file.flatbuffer import read
    from tests.cases import Net

    def forward(m: Any, a: Any, b: Any) -> Any:
        y = F.relu(m.one(a) + m.two(b))
        return {"first": y, "second": m.three(y)}

    torch.manual_seed(0)
    model = Net(forward, one=nn.Conv2d(3, 4, 3), two=nn.Conv2d(2, 4, 3), three=nn.Conv2d(4, 5, 1)).eval()
    codeq.attach(model, 4)
    codeq.freeze(model)
    inputs = (torch.randn(5, 3, 6, 7), 3 * torch.randn(5, 2, 6, 7))
    path = tmp_path / "net.tflite"
    report = export_tflite(
        model, inputs, path, activations="int8", calibration=inputs, io="int8", layout=layout, check_inputs=inputs
    )
    assert not report.notes
    assert ("TRANSPOSE" in report.details.operators) == (layout == "nchw")
    subgraph = read(path.read_bytes()).subgraphs[0]
    ends = [subgraph.tensors[number] for number in (*subgraph.inputs, *subgraph.outputs)]
    assert len({float(tensor.quantization.scale[0]) for tensor in ends}) == 4
    runner = opened(path)
    assert [slot.shape for slot in runner.inputs] == [(None, 3, 6, 7), (None, 2, 6, 7)]
    verdict = check_parity(path, model, inputs)
    assert verdict.ok, verdict
    assert verdict.differing(exact=True) == 0
    assert {check.output for check in verdict.outputs} == {"first", "second"}


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


CONTRADICTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "codes of floats": ({"io": "int8"}, "--io int8: .* found --activations float32; use --activations int8"),
    "hybrid codes": ({"hybrid": True, "activations": "int8"}, "--hybrid: .* found --activations int8.*leave --hybrid"),
    "layout": ({"layout": "chw"}, "layout 'chw', expected one of nchw, nhwc"),
    "io": ({"io": "uint8"}, "io 'uint8', expected one of float, int8"),
    "sparse": ({"sparse": "on"}, "sparse 'on', expected one of auto, off"),
}


def request(activations: Any = "float32", **options: Any) -> TfliteRequest:
    return TfliteRequest(quantization=Quantization(activations=activations), **options)


@pytest.mark.parametrize(("options", "reason"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_contradictions(options: dict[str, Any], reason: str) -> None:
    from export.errors import ExportError

    with pytest.raises(ExportError, match=reason):
        request(**options).check()


def test_what_goes_together() -> None:
    request().check()
    request(io="int8", activations="int8").check()
    request(hybrid=True).check()
