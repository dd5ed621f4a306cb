"""Commands are killed while they write, and no file is broken, lost or left over."""

from pathlib import Path
from typing import Any

import pytest

from runtime_tests.kills.cases import cases
from runtime_tests.kills.forks import Forks, Kill
from runtime_tests.kills.run import kill


@pytest.mark.slow("a process that loads the libraries, and forty runs of small commands")
def test_kills_of_what_is_quickest_do_no_harm() -> None:
    report = kill(20, seed=0, only=["compress", "inspect --json", "materialize"])
    assert not report.findings, str(report)
    assert report.kills == 20
    assert all(row.kills > 5 for row in report.rows)


@pytest.mark.full
def test_a_thousand_kills_over_all_commands_do_no_harm() -> None:
    report = kill(1000, seed=3)
    assert not report.findings, str(report)
    assert report.kills == 1000
    assert {row.command for row in report.rows} == set(cases())


@pytest.mark.slow("a process that forks")
def test_a_child_dies_before_the_change_that_is_named(tmp_path: Path, monkeypatch: Any) -> None:
    own, work = tmp_path / "own", tmp_path / "work"
    own.mkdir()
    work.mkdir()
    (own / "writes.py").write_text(
        "import os, pathlib, sys, time\n"
        "def main(argv=None):\n"
        "    pathlib.Path('one').write_text('1')\n"
        "    os.rename('one', 'two')\n"
        "    if 'wait' in sys.argv: time.sleep(60)\n"
        "    print('written', file=sys.stderr)\n"
        "    return 5\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(own))
    with Forks() as forks:
        ended = forks.run("writes", [], work)
        assert (ended.status, ended.changes, ended.stderr) == (5, 2, "written\n")
        (work / "two").unlink()
        assert forks.run("writes", [], work, Kill(change=1)).status is None
        assert not list(work.iterdir())
        assert forks.run("writes", [], work, Kill(change=2)).status is None
        assert [path.name for path in work.iterdir()] == ["one"]
        assert forks.run("writes", ["wait"], work, Kill(seconds=0.5)).status is None
        assert [path.name for path in work.iterdir()] == ["two"]
