"""Exports are measured one at a time, in processes of their own, and medians are taken."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from codeq.errors import CodeqError
from runtime_tests import compare
from runtime_tests.bench import export_cost
from runtime_tests.bench.export_cost import ExportCost, measure_exports


@pytest.mark.slow("a process of its own exports")
@pytest.mark.parametrize("kind", ["bare", "ours"])
@pytest.mark.full
def test_an_export_is_measured_and_its_file_removed(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What each process does."""
    assert compare.main(["autoencoder", "--folder", str(tmp_path), "--measure", kind]) == 0
    cost = ExportCost(**json.loads(capsys.readouterr().out))
    assert cost.seconds > 0
    assert list(tmp_path.iterdir()) == []


def test_medians_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([1.0, 10.0, 5.0, 30.0, 2.0, 20.0])
    monkeypatch.setattr(export_cost, "_measure_in_a_process", lambda *arguments: ExportCost(next(seconds), 8))
    assert measure_exports("autoencoder", tmp_path) == (ExportCost(2.0, 8), ExportCost(20.0, 8))


def test_a_process_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "Traceback\nMemoryError: why\n")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(CodeqError, match=r"the export of autoencoder cannot be measured \(MemoryError: why\)"):
        measure_exports("autoencoder", tmp_path)
