"""Bench: what it measures is there and fits together. Speed itself is no test."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

import codeq
from export import ExportError, export_onnx
from export.backend import file_bytes
from runtime_tests.bench.latency import bench


@pytest.fixture(scope="module")
def files(checkpoint_path: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    loaded = codeq.load(checkpoint_path)
    x = loaded.held_inputs
    assert x is not None
    folder = tmp_path_factory.mktemp("bench")
    paths = [folder / "float32.onnx", folder / "int8.onnx"]
    export_onnx(loaded.model, (x[:2],), paths[0])
    export_onnx(loaded.model, (x[:2],), paths[1], activations="int8", calibration=x)
    return paths


def test_a_report_holds_what_was_measured(files: list[Path], no_processes: int) -> None:
    shares: list[float] = []
    report = bench(files, batch=2, seconds=0, on_progress=lambda share, detail: shares.append(share))
    assert [result.path for result in report.results] == [str(path) for path in files]
    assert report.results[0].speedup == 1.0
    for result in report.results:
        assert result.size_bytes == Path(result.path).stat().st_size
        assert 0 < result.latency_p10_ms <= result.latency_ms <= result.latency_p90_ms
        assert result.speedup == pytest.approx(report.results[0].latency_ms / result.latency_ms)
        assert result.session_ms > 0
        assert result.peak_memory_bytes == no_processes
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert max(map(len, str(report).splitlines())) <= 100


@pytest.mark.usefixtures("no_processes")
def test_the_command(run_command: Any, files: list[Path], tmp_path: Path) -> None:
    done = run_command("runtime_tests.bench", *files, "--seconds", 0, "--json", tmp_path / "bench.json")
    assert done.returncode == 0, done.stderr
    assert "float32.onnx" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("batch 1, 1 thread, medians of ")
    values = json.loads((tmp_path / "bench.json").read_text())
    assert [Path(row["path"]).name for row in values["files"]] == ["float32.onnx", "int8.onnx"]
    assert {row["backend"] for row in values["files"]} == {"onnx"}
    assert values["threads"] == values["batch"] == 1


def test_external_data_counts(files: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(onnx.load(files[0]), path, save_as_external_data=True, location="net.data", size_threshold=0)
    assert file_bytes(path) == path.stat().st_size + (tmp_path / "net.data").stat().st_size


def test_bad_input_to_the_command(
    run_command: Any, files: list[Path], make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    text = tmp_path / "text.onnx"
    text.write_text("hello")
    cases: list[tuple[list[Any], str]] = [
        ([tmp_path / "no.onnx"], "no such file"),
        ([text], "is not an ONNX file"),
        ([files[0], "--threads", "0"], "expected an integer from 1 to 1024, found '0'"),
        ([files[0], "--batch", "x"], "expected an integer of at least 1, found 'x'"),
        ([files[0], "--json", files[0]], "is a file that this command reads or writes"),
        ([], "the following arguments are required: FILE"),
    ]
    for arguments, message in cases:
        done = run_command("runtime_tests.bench", *arguments)
        assert done.returncode == 2, (arguments, done)
        assert message in done.stderr, (arguments, done.stderr)
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert done.stdout == ""


@pytest.mark.full
def test_files_with_other_inputs_are_not_compared(files: list[Path], make_checkpoint: Callable[..., Path]) -> None:
    loaded = codeq.load(make_checkpoint(input_size=12))
    assert loaded.held_inputs is not None
    other = files[0].with_name("larger.onnx")
    export_onnx(loaded.model, (loaded.held_inputs[:2],), other)
    with pytest.raises(ExportError, match="takes other inputs than"):
        bench([files[0], other], seconds=0)


@pytest.mark.usefixtures("no_processes")
def test_tflite_files_beside_onnx_files(files: list[Path], checkpoint_path: Path, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is an extra: pip install '.[tflite]'")
    from export.tflite import export_tflite

    loaded = codeq.load(checkpoint_path)
    x = loaded.held_inputs
    assert x is not None
    paths = [files[0], tmp_path / "nchw.tflite", tmp_path / "nhwc.tflite"]
    for path in paths[1:]:
        export_tflite(loaded.model, (x[:2],), path, check_inputs=(x[:3],), layout=path.stem)
    report = bench(paths, batch=5, seconds=0)
    assert list(report.versions) == ["onnxruntime", "LiteRT"]
    assert all(result.latency_ms > 0 and result.peak_memory_bytes > 0 for result in report.results)
    assert [result.size_bytes for result in report.results] == [path.stat().st_size for path in paths]
    assert max(map(len, str(report).splitlines())) <= 100


def test_bad_tflite_files(files: list[Path], run_command: Any, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is an extra: pip install '.[tflite]'")
    text = tmp_path / "text.tflite"
    text.write_text("hello")
    for arguments, message in (([files[0], text], "is not a .tflite file"), ([tmp_path / "a.tflite"], "no such file")):
        done = run_command("runtime_tests.bench", *arguments)
        assert done.returncode == 2, done
        assert message in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
