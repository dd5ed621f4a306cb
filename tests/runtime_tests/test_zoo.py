"""The zoo's command: its rows, its tables and its exit status."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from runtime_tests import zoo
from runtime_tests.matrix import run
from runtime_tests.matrix.zoo_file import STORAGES
from runtime_tests.networks import zoo_network
from runtime_tests.runners.registry import all_runtimes
from runtime_tests.runners.runtime import is_installed

KINDS = (*STORAGES, "litert") if is_installed(all_runtimes()["litert"]) else STORAGES
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
    assert [line.split()[:3] for line in lines[2 : 2 + FILES]] == [
        ["autoencoder", mode, storage] for mode in ("weight-only", "int8") for storage in KINDS
    ]
    values = json.loads((tmp_path / "zoo.json").read_text())
    assert [file["failure"] for file in values["files"]] == [""] * FILES
    (timed,) = values["bench"]
    assert timed["rounds"] == 2
    assert timed["quantize_static"]["path"] == "autoencoder-quantize_static.onnx"
    ratios = timed["of_quantize_static"]
    assert ratios["int8"]["bytes"] == timed["int8"]["size_bytes"] / timed["quantize_static"]["size_bytes"]
    # A quarter of the weights' bytes by four bits, a third of that again by their zeros.
    assert ratios["packed"]["bytes"] < 0.6 < ratios["int8"]["bytes"]
    ratio = timed["int8"]["latency_ms"] / timed["quantize_static"]["latency_ms"]
    assert lines[FILES + 6].split()[-3:] == [
        f"{x:.2f}" for x in (ratio, ratios["int8"]["bytes"], ratios["packed"]["bytes"])
    ]
    done = run_command("runtime_tests.zoo", "--networks", "nothing", cwd=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
