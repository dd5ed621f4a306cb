"""One network as four files: which they are, and the report of what was measured."""

import json
from pathlib import Path

import onnx
import pytest

from runtime_tests import compare
from runtime_tests.bench import four_files, latency
from runtime_tests.bench.export_cost import ExportCost
from runtime_tests.bench.four_files import build_files


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return build_files("resnet8", tmp_path_factory.mktemp("four"))


def test_the_four_files_of_a_network(files: list[Path]) -> None:
    assert [path.name for path in files] == [
        f"resnet8-{kind}.onnx" for kind in ("float32", "weights", "int8", "quantize_static")
    ]
    assert sorted(files[0].parent.iterdir()) == sorted(files)
    theirs = {node.op_type for node in onnx.load(files[3]).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear", "Conv"} <= theirs


def test_the_command_measures_files_and_exports(
    files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = ExportCost(2.0, 4_000_000), ExportCost(3.0, 5_000_000)
    monkeypatch.setattr(four_files, "build_files", lambda name, folder, on_progress: files)
    monkeypatch.setattr(latency, "measure_in_a_process", lambda path, threads, batch: 1_000_000)
    monkeypatch.setattr(four_files, "measure_exports", lambda name, folder, on_progress: costs)
    report = tmp_path / "a.json"
    assert compare.main(["resnet8", "--folder", str(tmp_path), "--seconds", "0", "--json", str(report)]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 100
    assert "time 1.50x, memory +3.2x the weights (312.7 kB)" in text
    values = json.loads(report.read_text())
    assert [row["path"] for row in values["files"]] == [str(path) for path in files]
    assert values["export"]["bare"] == {"seconds": 2.0, "peak_memory_bytes": 4_000_000}
