"""The comparison of kinds of .tflite files, on a network of a second."""

import json
from pathlib import Path

import pytest

pytest.importorskip("ai_edge_litert", reason="LiteRT is an extra: pip install '.[tflite]'")

from runtime_tests.bench import tflite_modes
from runtime_tests.tflite_modes import main

MEASURED = ("float32", "int8", "int8-dense", "hybrid")


@pytest.mark.full
@pytest.mark.usefixtures("no_processes")
def test_every_kind_is_written_held_and_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tflite_modes, "MODES", {name: tflite_modes.MODES[name] for name in MEASURED})
    target = tmp_path / "modes.json"
    arguments = ["resnet8", "--zeros", "0.95", "--folder", str(tmp_path), "--seconds", "0", "--json", str(target)]
    assert main(arguments) == 0
    assert "int8-dense" in capsys.readouterr().out
    modes = {mode["name"]: mode for mode in json.loads(target.read_text())["modes"]}
    assert list(modes) == list(MEASURED)
    assert modes["float32"]["bench"]["speedup"] == 1
    assert modes["int8"]["size_over_dense"] < 0.8 < modes["int8-dense"]["size_over_dense"] == 1
    for name in MEASURED:
        assert modes[name]["bench"]["size_bytes"] == (tmp_path / f"resnet8-{name}.tflite").stat().st_size
        assert modes[name]["parity"].endswith(": ok")
        assert modes[name]["parity"].startswith("codes differ: 0 of ") == name.startswith("int8")
        assert ("weights bit for bit" in modes[name]["parity"]) != name.startswith("int8")
    assert "approximate" in modes["hybrid"]["parity"]
