"""The storage experiment on a network small enough for a test."""

import json
from pathlib import Path
from typing import Any

import pytest

from runtime_tests.bench.storage import measure_storage


@pytest.mark.full
@pytest.mark.usefixtures("no_processes")
def test_measure_storage_compares_with_dense() -> None:
    report = measure_storage("resnet8", [0.9], ["packed", "packed"], "float32", seconds=0.0, threads=1)
    dense, packed = report.results
    assert (dense.storage, packed.storage) == ("dense", "packed")
    assert dense.session_over_dense == dense.latency_over_dense == 1
    assert packed.bench.size_bytes < 0.4 * dense.bench.size_bytes
    assert packed.size_over_bound == pytest.approx(packed.bench.size_bytes / packed.entropy_bytes)
    assert packed.transient_bytes > dense.transient_bytes == 0
    assert "of dense" in str(report)
    assert report.to_dict()["seed"] == 0


@pytest.mark.full
@pytest.mark.usefixtures("no_processes")
def test_the_command(run_command: Any, tmp_path: Path) -> None:
    done = run_command(
        "runtime_tests.storage", "resnet8", "--zeros", 0.9, "--storage", "packed", "--seconds", 0, "--json", "a.json",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 100
    values = json.loads((tmp_path / "a.json").read_text())
    assert [result["storage"] for result in values["results"]] == ["dense", "packed"]
