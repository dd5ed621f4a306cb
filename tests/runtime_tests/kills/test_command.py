"""`python -m runtime_tests.kills`: its exit status says whether a kill did harm."""

import json
from pathlib import Path
from typing import Any

import pytest

from runtime_tests.kills.run import CommandKills, Harm, KillReport


@pytest.mark.quick
@pytest.mark.parametrize(("findings", "status"), [((), 0), ((Harm(1, "train", "after 1 s", "net.pt is lost"),), 1)])
def test_the_exit_status(findings: Any, status: int, run_command: Any, monkeypatch: Any, tmp_path: Path) -> None:
    report = KillReport(0, 0.1, (CommandKills("train", 9, 4, 1, 1, 2),), findings)
    monkeypatch.setattr("runtime_tests.kills.run.kill", lambda *arguments, **keywords: report)
    done = run_command("runtime_tests.kills", "--json", "report.json", cwd=tmp_path)
    assert done.returncode == status
    assert json.loads((tmp_path / "report.json").read_text())["kills"] == 4
    assert "4 kills" in done.stdout


@pytest.mark.quick
def test_an_unknown_command(run_command: Any) -> None:
    done = run_command("runtime_tests.kills", "--only", "nothing")
    assert done.returncode == 2
    assert "no command 'nothing', expected some of: train" in " ".join(done.stderr.split())
