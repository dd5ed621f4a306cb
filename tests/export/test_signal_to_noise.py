"""What 8-bit activations leave of a network: the report's figures are the runtimes' own, and little is said loudly."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import codeq
from codeq.activations.encoding import ActivationEncoding
from export import check_parity, export_onnx
from export.onnx.__main__ import main
from tests.cases import CASES, Net
from tests.export.test_cases import build
from tests.stock_session import stock_session

SURELY = 25.0
"""dB that networks keep whose extreme values stay float; with them on one grid it was 1.7 to 6.7."""
EXTREMES = [name for name in CASES if name.startswith("extreme: ")]
SHOWN = ("extreme: a mask of -10000", "extreme: a norm of nothing")


def decibels(expected: np.ndarray, found: np.ndarray) -> float:
    noise = np.square(expected - found).sum()
    return float(10 * np.log10(np.square(expected).sum() / noise))


def in_onnxruntime(path: Path, inputs: tuple[Tensor, ...]) -> np.ndarray:
    session = stock_session(path)
    names = [item.name for item in session.get_inputs()]
    return session.run(None, dict(zip(names, (x.numpy() for x in inputs), strict=True)))[0]


def in_litert(path: Path, inputs: tuple[Tensor, ...]) -> np.ndarray:
    interpreter_module = pytest.importorskip("ai_edge_litert.interpreter")
    interpreter = interpreter_module.Interpreter(model_path=str(path))
    details = interpreter.get_input_details()
    rows = []
    for row in zip(*inputs, strict=True):
        interpreter.allocate_tensors()
        for detail, x in zip(details, row, strict=True):
            interpreter.set_tensor(detail["index"], x[None].numpy())
        interpreter.invoke()
        rows.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    return np.concatenate(rows)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in SHOWN else pytest.mark.full) for name in EXTREMES]
)
def test_extreme_values_cost_a_file_nothing(name: str, tmp_path: Path) -> None:
    model, inputs = build(CASES[name])
    path = tmp_path / "net.onnx"
    report = export_onnx(model, inputs, path, activations="int8")
    with torch.no_grad():
        expected = model(*inputs).numpy()
    measured = decibels(expected, in_onnxruntime(path, inputs))
    assert measured > SURELY
    assert report.verdict.signal is not None
    (output,) = report.verdict.signal.outputs
    assert output.decibels == pytest.approx(measured, abs=0.1)
    # The file says by itself which tensors stayed float.
    assert check_parity(path, model, inputs).ok


def test_a_litert_file_keeps_as_much(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is an extra: pip install '.[tflite]'")
    from export.tflite import export_tflite

    model, inputs = build(CASES["extreme: a mask of -10000"])
    report = export_tflite(model, inputs, tmp_path / "net.tflite", activations="int8")
    with torch.no_grad():
        expected = model(*inputs).numpy()
    measured = decibels(expected, in_litert(tmp_path / "net.tflite", inputs))
    assert measured > SURELY
    assert report.verdict.signal is not None
    assert report.verdict.signal.outputs[0].decibels == pytest.approx(measured, abs=0.1)
    assert len(report.verdict.signal.worst_layers) == 3
    assert report.to_dict()["parity"]["signal"]["layers"][0].keys() == {"layer", "decibels"}


@pytest.fixture
def coarse(tmp_path: Path) -> Path:
    """A checkpoint whose learned grids are far too coarse."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    codeq.attach(model, bits=4)
    codeq.freeze(model)
    grids = {"input": ActivationEncoding(0.03125, 128), "0": ActivationEncoding(4.0, 0)}
    x = torch.randn(8, 1, 8, 8)
    codeq.save(tmp_path / "net.pt", model.eval(), input_shape=(1, 8, 8), held_inputs=x, activations=grids)
    return tmp_path / "net.pt"


def test_little_signal_is_said_loudly(
    coarse: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = coarse.with_name("factory.py")
    module.write_text(
        "from torch import nn\n\n"
        "def net():\n    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))\n"
    )
    monkeypatch.syspath_prepend(str(coarse.parent))
    output, report = coarse.with_name("net.onnx"), coarse.with_name("report.json")
    assert main([str(coarse), "-o", str(output), "--model", "factory:net", "--json", str(report)]) == 0
    printed = capsys.readouterr()
    assert "WARNING               output: 8-bit activations leave it" in printed.out
    assert printed.err.count("warning: output: 8-bit activations leave it") == 1
    assert "the worst layer is 3" in printed.err
    signal = json.loads(report.read_text())["parity"]["signal"]
    assert signal["outputs"][0]["decibels"] < 10
    assert signal["layers"][0]["layer"] == "3"


def test_float_files_have_none(tmp_path: Path) -> None:
    model, inputs = build(CASES["extreme: a norm of nothing"])
    report = export_onnx(model, inputs, tmp_path / "net.onnx")
    assert report.verdict.signal is None
    assert report.warnings == ()
    assert report.to_dict()["parity"]["signal"] is None


@pytest.mark.parametrize("value", [-torch.inf, -3.4e38])
def test_masks_that_a_layer_on_codes_would_read(value: float, tmp_path: Path) -> None:
    torch.manual_seed(0)
    body: Callable[..., Tensor] = lambda m, x: m.out(  # noqa: E731
        torch.where(x > 0.5, m.one(x), value).sigmoid() * m.two(x)
    ).flatten(1)
    model = Net(body, one=nn.Conv2d(3, 3, 1), two=nn.Conv2d(3, 3, 1), out=nn.Conv2d(3, 2, 1))
    codeq.attach(model, bits=8)
    codeq.freeze(model)
    x = torch.randn(8, 3, 6, 6)
    report = export_onnx(model.eval(), (x,), tmp_path / "net.onnx", activations="int8")
    reasons = {kernel.name: kernel.reason for kernel in report.kernels}
    assert reasons["sigmoid"].startswith("where has ")
    with torch.no_grad():
        assert decibels(model(x).numpy(), in_onnxruntime(tmp_path / "net.onnx", (x,))) > SURELY
    assert check_parity(tmp_path / "net.onnx", model, (x,)).ok
