"""`python -m runtime_tests.fuzz`: its exit status says whether anything was found."""

import json
from pathlib import Path
from typing import Any

import pytest

from runtime_tests.fuzz.run import Finding, FuzzReport


@pytest.mark.quick
@pytest.mark.parametrize(("findings", "status"), [((), 0), ((Finding(1, "a", "b", "inspect", "traceback"),), 1)])
def test_the_exit_status(findings: Any, status: int, run_command: Any, monkeypatch: Any, tmp_path: Path) -> None:
    report = FuzzReport("onnx", 0, 1, 0.1, {"inspect": {"2": 1}}, findings)
    monkeypatch.setattr("runtime_tests.fuzz.run.fuzz", lambda *arguments, **keywords: report)
    done = run_command("runtime_tests.fuzz", "onnx", "--json", "report.json", cwd=tmp_path)
    assert done.returncode == status
    assert len(json.loads((tmp_path / "report.json").read_text())["findings"]) == status
    assert "refused in one line" in done.stdout


@pytest.mark.quick
def test_another_format(run_command: Any) -> None:
    done = run_command("runtime_tests.fuzz", "png")
    assert done.returncode == 2
    assert "onnx" in done.stderr
