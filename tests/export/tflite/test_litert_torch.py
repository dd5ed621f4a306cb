"""Codes in the place of a converted file's float weights. With litert-torch itself where it is installed (2 GB)."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import codeq
from export import check_parity
from export.errors import ExportError
from export.options import Quantization
from export.program.prepare import prepare_program
from export.runner import run_batches

pytest.importorskip("ai_edge_litert", reason="LiteRT is an extra: pip install '.[tflite]'")

from export.tflite import export_tflite, litert_torch
from export.tflite.file.flatbuffer import read, tensors_by_name, write
from export.tflite.litert_torch import put_codes
from export.tflite.lower import build_graph
from export.tflite.runner import LiteRtRunner


class MovedWeights(nn.Module):
    """Every kind of layer whose weight lies in another order in the file; `twice` shares one between two layers."""

    def __init__(self, kind: str = "") -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 4, (3, 2), bias=False), nn.BatchNorm2d(4)
        self.depthwise, self.fc = nn.Conv2d(4, 4, 3, groups=4, padding=1), nn.Linear(4, 4)
        self.last, self.unused, self.kind = nn.Linear(4, 4), nn.Linear(3, 3), kind

    def forward(self, x: Tensor) -> Tensor:
        x = self.depthwise(F.relu(self.norm(self.conv(x))))
        x = self.last(F.relu(self.fc(x.mean((2, 3)))))
        return self.last(x) if self.kind == "twice" else x.erf() if self.kind == "erf" else x


def prepare(kind: str = "", grid: str = "integer") -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    model = MovedWeights(kind)
    codeq.attach(model, bits=4, grid=grid)  # type: ignore[arg-type]
    x = torch.randn(6, 2, 6, 6)
    with torch.no_grad():
        model(x)
    codeq.freeze(model)
    return model.eval(), x


@pytest.fixture
def converted(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What stands in for litert-torch, this package's writer of float files; and the sizes of its files."""

    def convert(program: Any, example: tuple[Tensor, ...]) -> bytes:
        litert_torch._decode_weights(program)
        return write(build_graph(program).graph, {})

    monkeypatch.setattr(litert_torch, "convert", convert)
    return convert


@pytest.mark.parametrize("grid", ["integer", "paper"])
@pytest.mark.parametrize("kind", ["", "twice"])
def test_codes_replace_floats(converted: Any, tmp_path: Path, kind: str, grid: str) -> None:
    model, x = prepare(kind, grid)
    path = tmp_path / "net.tflite"
    report = export_tflite(model, (x[:2],), path, check_inputs=(x,), backend="litert-torch")
    assert report.verdict.ok
    assert report.details.operators["DEQUANTIZE"] == 4
    assert report.details.operators.get("SIGN", 0) == (4 if grid == "paper" else 0)
    assert {weight.name: weight.storage for weight in report.weights}["unused.weight"] == "unused"
    # Read back, it is held one input at a time.
    verdict = check_parity(path, model, x)
    assert verdict.ok, verdict
    assert {check.batch_size for check in verdict.outputs} == {1}
    assert (verdict.inputs, len(verdict.weights)) == (len(x), 5)
    stored = tensors_by_name(read(path.read_bytes()))
    floats = [name for name, (data, _) in stored.items() if data is not None and data.dtype == np.float32]
    assert not any("weight" in name and "shift" not in name for name in floats)


def test_a_weight_that_was_changed_aborts(converted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = prepare()
    program = prepare_program(model, (x[:1],), Quantization(), open_batch=False).program
    data = converted(program, (x[:1],))
    record = program.weights["fc.parametrizations.weight.original"]
    codes = record.encoding.codes
    codes[0, 0] += 1 if codes[0, 0] < 7 else -1
    with pytest.raises(ExportError, match=r"fc\.weight: no constant of the file that litert-torch made equals it"):
        put_codes(data, program)


def test_nothing_is_written_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(litert_torch, "import_module", missing)
    model, x = prepare()
    with pytest.raises(ExportError, match=r"pip install '.\[tflite-torch\]'"):
        export_tflite(model, (x[:2],), tmp_path / "net.tflite", backend="litert-torch")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", [{"activations": "int8"}, {"layout": "nhwc"}, {"int4": True}, {"hybrid": True}])
def test_what_its_files_cannot_be(tmp_path: Path, options: dict[str, Any]) -> None:
    model, x = prepare()
    with pytest.raises(ExportError, match=r"^--backend litert-torch: its files have float32 activations, .* found --"):
        export_tflite(model, (x[:2],), tmp_path / "net.tflite", backend="litert-torch", **options)


def test_an_operator_that_the_writer_lacks(tmp_path: Path) -> None:
    """The converter itself, where it is installed."""
    pytest.importorskip("litert_torch", reason="litert-torch is an extra: pip install '.[tflite-torch]'")
    model, x = prepare("erf")
    with pytest.raises(ExportError, match="erf: has no lowering to LiteRT; --backend litert-torch may"):
        export_tflite(model, (x[:2],), tmp_path / "net.tflite")
    report = export_tflite(model, (x[:2],), tmp_path / "net.tflite", check_inputs=(x,), backend="litert-torch")
    assert report.verdict.ok
    assert report.details.operators
    runner = LiteRtRunner(tmp_path / "net.tflite")
    runner.open()
    (found,) = run_batches(runner, (x,), 1)
    with torch.no_grad():
        np.testing.assert_allclose(found, model(x).numpy(), atol=1e-5)
