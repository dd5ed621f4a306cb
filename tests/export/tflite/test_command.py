"""`python -m export.tflite`: what it prints, its exit status, and that nothing appears where parity does not hold."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.errors import ExportError, ParityError
from export.tflite import requantization
from export.tflite.graph import Quantization


@pytest.fixture
def litert() -> Any:
    return pytest.importorskip("ai_edge_litert", reason="LiteRT is an extra: pip install 'codeq[tflite]'")


@pytest.mark.parametrize("activations", ["float32", "int8"])
@pytest.mark.usefixtures("litert")
def test_a_checkpoint_becomes_a_file(
    checkpoint_path: Path, tmp_path: Path, run_command: Callable[..., Any], activations: str
) -> None:
    target, report = tmp_path / "net.tflite", tmp_path / "net.json"
    calibration = tmp_path / "inputs.npz"
    np.savez(calibration, np.random.default_rng(0).standard_normal((16, 1, 8, 8)).astype(np.float32))
    options = ["--calibration", calibration] if activations == "int8" else []
    command = ["export.tflite", checkpoint_path, "-o", target, "--activations", activations, "--json", report, *options]
    done = run_command(*command)
    assert done.returncode == 0, done.stderr
    assert "weights bit for bit: ok" in done.stdout
    values = json.loads(report.read_text())
    assert values["verdict"]["ok"]
    assert values["size_bytes"] == target.stat().st_size
    assert sum(code == "CONV_2D" for code in values["kernels"].values()) == (9 if activations == "int8" else 0)

    again = run_command(*command)
    assert again.returncode == 2
    assert again.stderr.strip().endswith("exists; use --force to overwrite it")


@pytest.mark.usefixtures("litert")
def test_nothing_is_published_where_a_code_differs(
    checkpoint_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from codeq import checkpoint
    from export.tflite import export, export_tflite

    def spoil(graph: Any, metadata: Any) -> bytes:
        tensor = next(t for t in graph.tensors if t.name == "block1.conv1.weight_quantized")
        tensor.data[0, 0, 0, 0] += 1
        return write(graph, metadata)

    write = export.write
    monkeypatch.setattr(export, "write", spoil)
    loaded = checkpoint.load(checkpoint_path)
    inputs, _ = loaded.inputs_to_check(4)
    with pytest.raises(ParityError, match=r"block1\.conv1\.weight: its codes are not those"):
        export_tflite(loaded.model, (inputs,), tmp_path / "net.tflite")
    assert not list(tmp_path.iterdir())


def test_the_extra_is_missing(checkpoint_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from export.tflite import __main__ as command
    from export.tflite import runtime

    def missing(name: str) -> Any:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(runtime, "import_module", missing)
    with pytest.raises(ExportError, match=r"pip install 'codeq\[tflite\]'$"):
        command.main([str(checkpoint_path), "-o", str(tmp_path / "net.tflite")])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("code", "scale"), [("ADD", 0.6), ("ADD", 1e-6), ("MUL", 0.6), ("QUANTIZE", 0.3)])
def test_a_ratio_that_the_runtime_refuses(code: str, scale: float) -> None:
    grid = Quantization(np.array([0.002], np.float32))
    with pytest.raises(ExportError, match=f"layer: a scale of .*{code}.*--activations-except layer"):
        requantization.check_ratio("layer", code, np.array([scale], np.float32), grid)
    requantization.check_ratio("layer", code, np.array([0.004], np.float32), grid)


def test_a_factor_that_the_runtime_refuses() -> None:
    sums, grid = np.array([0.1, 0.51], np.float32), Quantization(np.array([0.002], np.float32))
    with pytest.raises(ExportError, match=r"conv: .* is 256 in channel 1, .*--activations-except conv"):
        requantization.check_requantization("conv", np.array([0.1, 0.512], np.float32), grid)
    requantization.check_requantization("conv", sums, grid)
