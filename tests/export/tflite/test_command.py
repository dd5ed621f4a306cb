"""`python -m export.tflite`: what it prints, its exit status, and that nothing appears where parity does not hold."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.errors import ExportError
from export.parity.verdict import ParityError


@pytest.fixture
def litert() -> Any:
    return pytest.importorskip("ai_edge_litert", reason="LiteRT is an extra: pip install '.[tflite]'")


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
    parity = done.stdout.splitlines()[-1]
    assert parity.startswith("parity                codes differ: 0 of " if activations == "int8" else "parity       ")
    assert parity.endswith("16 inputs: ok" if activations == "int8" else "16 inputs, weights bit for bit: ok")
    values = json.loads(report.read_text())
    assert values["format_version"] == 1
    assert values["backend"] == "tflite"
    assert values["parity"]["ok"]
    assert values["size_bytes"] == target.stat().st_size
    kernels = [kernel["kernel"] for kernel in values["parity"]["kernels"]]
    assert kernels.count("CONV_2D") == (9 if activations == "int8" else 0)
    assert values["details"]["operators"]["CONV_2D"] == 9

    again = run_command(*command)
    assert again.returncode == 2
    assert again.stderr.strip().endswith("exists; use --force to overwrite it")


MODES: dict[str, tuple[list[str], dict[str, str], str]] = {
    "hybrid": (["--hybrid"], {"conv1.weight": "hybrid CONV_2D"}, "approximate (hybrid): outputs off by"),
    "channels last": (["--layout", "nhwc", "--sparse", "off"], {"conv1.weight": "DEQUANTIZE"}, "bit for bit: ok"),
}


@pytest.mark.parametrize(("options", "readers", "said"), MODES.values(), ids=MODES)
@pytest.mark.usefixtures("litert")
def test_modes(
    checkpoint_path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    readers: dict[str, str],
    said: str,
) -> None:
    from export.tflite.__main__ import main

    target, report = tmp_path / "net.tflite", tmp_path / "net.json"
    arguments = [str(checkpoint_path), "-o", str(target), "--json", str(report), "--check", "3"]
    assert main([*arguments, "--activations", "float", *options]) == 0
    printed = capsys.readouterr().out
    assert said in printed
    assert max(len(line) for line in printed.splitlines() if str(target) not in line) <= 100
    weights = {weight["name"]: weight for weight in json.loads(report.read_text())["weights"]}
    assert {name: weights[name]["lowering"] for name in readers} == readers
    assert sum(weight["size_bytes"] for weight in weights.values()) < target.stat().st_size


REFUSED: dict[str, tuple[list[str], str]] = {
    "codes of floats": (
        ["--activations", "float", "--io", "int8"],
        r"^--io int8: .*; use --activations int8, or --io fl",
    ),
    "hybrid codes": (["--activations", "int8", "--hybrid"], r"^--hybrid: .*; use --activations float32, or leave"),
    "wide codes": (
        ["--int4", "--activations", "float"],
        r"^--int4 does nothing here: .* expected -8 to 7 for INT4; leave",
    ),
}


@pytest.mark.parametrize(("options", "reason"), REFUSED.values(), ids=REFUSED)
@pytest.mark.usefixtures("litert")
def test_refused_options_write_nothing(
    checkpoint_path: Path, tmp_path: Path, options: list[str], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from export.tflite.__main__ import main
    from export.tflite.weights import form as weight_form

    monkeypatch.setattr(weight_form, "fits", lambda codes: False)
    calibration = tmp_path / "inputs.npz"
    np.savez(calibration, np.random.default_rng(0).standard_normal((4, 1, 8, 8)).astype(np.float32))
    given = ["--calibration", str(calibration)] if "int8" in options and "--hybrid" in options else []
    with pytest.raises(ExportError, match=reason) as raised:
        main([str(checkpoint_path), "-o", str(tmp_path / "net.tflite"), *options, *given])
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == [calibration]


@pytest.mark.usefixtures("litert")
def test_contradicting_options_are_bad_usage(
    checkpoint_path: Path, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    target = tmp_path / "net.tflite"
    done = run_command("export.tflite", checkpoint_path, "-o", target, "--activations", "float", "--io", "int8")
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert not target.exists()


@pytest.mark.usefixtures("litert")
def test_nothing_is_published_where_a_code_differs(
    checkpoint_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from codeq import checkpoint
    from export.tflite import export_tflite
    from export.tflite import write as module

    def spoil(graph: Any, metadata: Any) -> bytes:
        tensor = next(t for t in graph.tensors if t.name == "block1.conv1.weight_quantized")
        tensor.data[0, 0, 0, 0] += 1
        return write(graph, metadata)

    write = module.write
    monkeypatch.setattr(module, "write", spoil)
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
    with pytest.raises(ExportError, match=r"pip install '.\[tflite\]' in a clone of this project$"):
        command.main([str(checkpoint_path), "-o", str(tmp_path / "net.tflite")])
    assert not list(tmp_path.iterdir())
