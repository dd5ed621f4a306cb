"""The scaling experiment on one layer, and the order and table of several sizes."""

import json
from pathlib import Path

import pytest

from runtime_tests import scaling
from runtime_tests.bench import scaling as experiment
from runtime_tests.bench.scaling import ExportGrowth, measure_export


@pytest.mark.slow("it exports and measures")
@pytest.mark.full
def test_measure_export_counts_parameters() -> None:
    growth = measure_export(1, "packed")
    assert growth.parameters == 2048**2
    assert growth.size_bytes < 1.1 * growth.entropy_bytes
    assert growth.peak_memory_bytes > growth.parameters


def test_sizes_are_measured_smallest_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(millions: int, storage: str, threads: int | None) -> ExportGrowth:
        assert threads == 2
        return ExportGrowth(millions * 1_000_000, 2.0, 1_000, 300, 200.0)

    monkeypatch.setattr(experiment, "_measure_in_a_process", measure)
    assert (
        scaling.main(["--millions", "2", "--millions", "1", "--threads", "2", "--json", str(tmp_path / "a.json")]) == 0
    )
    values = json.loads((tmp_path / "a.json").read_text())
    assert values["format_version"] == 1
    assert values["storage"] == "packed"
    assert [growth["parameters"] for growth in values["results"]] == [1_000_000, 2_000_000]
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[2:]] == ["1.0", "2.0"]


def test_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        scaling.main(["--millions", "0"])
    assert stopped.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
