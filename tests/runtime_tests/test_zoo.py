"""The zoo's command: its rows, its tables and its exit status."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from runtime_tests import zoo
from runtime_tests.matrix import run
from runtime_tests.matrix.zoo_file import all_kinds
from runtime_tests.networks import zoo_network

KINDS = [kind.variant for kind in all_kinds()]
FILES = 2 * len(KINDS)


@pytest.mark.full
def test_a_file_that_does_not_hold_is_a_row_and_exit_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def without_variance(name: str, arguments: Any = None) -> tuple[nn.Module, Tensor]:
        model, inputs = zoo_network(name, {"in_features": 16})
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.get_buffer("running_var").fill_(math.nan)
        return model, inputs

    monkeypatch.setattr(run, "zoo_network", without_variance)
    assert zoo.main(["--networks", "autoencoder", "--bench", "--json", str(tmp_path / "zoo.json")]) == 1
    text = capsys.readouterr().out
    values = json.loads((tmp_path / "zoo.json").read_text())
    refused = sum(bool(file["refused"]) for file in values["files"])
    assert f"parity holds for 0 of {FILES - refused} files" in text
    assert text.count("FAILED") == FILES - refused >= 6
    assert values["ok"] is False
    assert values["bench"] == []
    assert all((file["failure"] or file["refused"]) and file["size_bytes"] is None for file in values["files"])


@pytest.mark.full
@pytest.mark.usefixtures("no_processes")
def test_the_command(run_command: Any, tmp_path: Path) -> None:
    done = run_command(
        "runtime_tests.zoo", "--networks", "autoencoder", "autoencoder", "--bench", "--rounds", 2, "--json", "zoo.json",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 100
    assert f"parity holds for {FILES} of {FILES} files" in done.stdout
    assert [line.split()[:3] for line in lines if line.startswith("autoencoder ") and " ok" in line] == [
        ["autoencoder", mode, storage] for mode in ("weight-only", "int8") for storage in KINDS
    ]
    values = json.loads((tmp_path / "zoo.json").read_text())
    assert [file["failure"] for file in values["files"]] == [""] * FILES
    (timed,) = values["bench"]
    assert timed["rounds"] == 2
    static = timed["quantize_static"]
    assert (timed["float32"]["path"], static["path"]) == ("float32.onnx", "quantize_static.onnx")
    found = {file["path"]: file for file in timed["files"]}
    assert len(found) == FILES
    int8, packed = found["int8-auto.onnx"], found["int8-packed.onnx"]
    ratios = int8["of_quantize_static"]
    assert ratios["bytes"] == int8["size_bytes"] / static["size_bytes"]
    assert ratios["latency"] == int8["latency_ms"] / static["latency_ms"]
    # A quarter of the weights' bytes by four bits, a third of that again by their zeros.
    assert packed["of_quantize_static"]["bytes"] < 0.6 < ratios["bytes"]
    (line,) = [line.split() for line in lines if line.split()[:1] == ["int8-auto.onnx"]]
    assert line[-2:] == [f"{ratios['latency']:.2f}", f"{ratios['bytes']:.2f}"]
    done = run_command("runtime_tests.zoo", "--networks", "nothing", cwd=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
