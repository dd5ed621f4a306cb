"""What both export commands do where parity does not hold."""

from pathlib import Path
from typing import Any

import pytest

import codeq
from export import check_parity, publish
from export.backend import get_backend
from export.inspect import inspect_file
from export.onnx import __main__ as onnx
from export.parity import held, outputs
from export.parity.verdict import ParityError
from export.tflite import __main__ as tflite


class Verdict:
    """What a failed check gives."""

    first_failure = "fc.weight: 3 values differ"

    def __str__(self) -> str:
        return "the table of checks"


@pytest.mark.parametrize("command", [onnx, tflite], ids=["onnx", "tflite"])
def test_a_failed_check_is_exit_status_1(
    command: Any,
    checkpoint_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if command is tflite:
        pytest.importorskip("ai_edge_litert", reason="LiteRT is an extra: pip install '.[tflite]'")

    def fail(*arguments: Any, **options: Any) -> Any:
        raise ParityError(Verdict())  # type: ignore[arg-type]

    monkeypatch.setattr(publish, "publish", fail)
    target = tmp_path / "net"
    assert command.main([str(checkpoint_path), "-o", str(target), "--activations", "float32"]) == 1
    printed = capsys.readouterr()
    assert printed.out == "the table of checks\n"
    assert f"{target}: not written, parity does not hold: fc.weight: 3 values differ" in printed.err
    assert not target.exists()


@pytest.mark.parametrize("name", ["onnx", "tflite"])
def test_a_mismatch_that_is_accepted_is_exit_status_0(
    name: str,
    checkpoint_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No output is within a negative bound: the only way to a file that is right, and fails."""
    if name == "tflite":
        pytest.importorskip("ai_edge_litert", reason="LiteRT is an extra: pip install '.[tflite]'")
    monkeypatch.setattr(outputs, "RELATIVE_TOLERANCE", -1.0)
    monkeypatch.setattr(held, "tolerance_of", lambda expected: float("inf"))
    target = tmp_path / f"net.{name}"
    words = [str(checkpoint_path), "-o", str(target), "--activations", "float32", "--check", "3"]
    command = {"onnx": onnx, "tflite": tflite}[name]
    assert command.main(words) == 1
    assert not target.exists()
    capfd.readouterr()
    assert command.main([*words, "--accept-mismatch"]) == 0
    printed = capfd.readouterr()
    assert f"{target}: published although parity does not hold: output at " in caplog.text
    assert "weights bit for bit: FAILED" in printed.out
    stored = get_backend(name).read(target)
    assert stored.metadata.mismatch.startswith("output at ")
    assert "does not hold, published all the same: output at" in str(inspect_file(target))
    monkeypatch.undo()
    loaded = codeq.load(checkpoint_path)
    assert loaded.held_inputs is not None
    assert check_parity(target, loaded.model, loaded.held_inputs).ok, "it computes what it computed before"
