"""The comparison of runs as a table that fits the terminal; the command's tests (test_pareto.py) see the rest."""

from collections.abc import Callable
from pathlib import Path

import pytest

from codeq.figures.comparison import compare_runs

Write = Callable[..., Path]


@pytest.mark.parametrize("columns", [80, 100])
def test_the_table_fits(columns: int, write_log: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    for seed, accuracy in enumerate((0.0, 1.0)):
        path = tmp_path / f"{seed}.jsonl"
        write_log(path, f"{'mobilenetv2-' * 9}s{seed}", accuracy=accuracy, relative_bops=1.0, entropy_bytes=123.4e6)
    report = compare_runs([tmp_path])
    assert report.figures == ()
    assert max(map(len, str(report).splitlines())) <= columns
