"""What both export commands do where parity does not hold."""

from pathlib import Path
from typing import Any

import pytest

from export import publish
from export.onnx import __main__ as onnx
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
