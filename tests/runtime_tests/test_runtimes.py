"""The comparison across runtimes: what it prints, and its exit status."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import codeq
from export import export_onnx
from runtime_tests import runtimes

pytest.importorskip("ai_edge_litert", reason="LiteRT is an extra: pip install '.[tflite]'")

from export.tflite import export_tflite
from tests.runtime_tests.test_tflite_parity import changed, move_a_bias

NAMES = ["float32.onnx", "float32.tflite", "int8.onnx", "int8.tflite"]


@pytest.fixture(scope="module")
def files(checkpoint_path: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    loaded = codeq.load(checkpoint_path)
    x = loaded.held_inputs
    assert x is not None
    folder = tmp_path_factory.mktemp("runtimes")
    exports: dict[str, Callable[..., Any]] = {".onnx": export_onnx, ".tflite": export_tflite}
    paths = [folder / name for name in NAMES]
    for path in paths:
        exports[path.suffix](loaded.model, (x[:2],), path, check_inputs=(x[:3],), activations=path.stem, calibration=x)
    return paths


def run(arguments: list[Any]) -> int:
    return runtimes.main(list(map(str, arguments)))


@pytest.mark.slow("three runtimes")
def test_the_command(run_command: Any, checkpoint_path: Path, files: list[Path], tmp_path: Path) -> None:
    report = tmp_path / "runtimes.json"
    done = run_command("runtime_tests.runtimes", checkpoint_path, *files, "--json", report)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[-1] == "runtimes  16 inputs, batches of 1 and 20: ok"
    assert "int8.onnx in onnxruntime, int8.tflite in LiteRT: 0 of " in done.stdout
    values = json.loads(report.read_text())
    assert values["ok"]
    rows = {(row["file"], row["runtime"]): row for row in values["rows"]}
    for name in NAMES[:2]:
        row = rows[name, "onnxruntime" if name.endswith("onnx") else "LiteRT"]
        assert row["max_abs_error"] <= values["tolerance"]
        assert row["unlike_pytorch"] == []
    for key in (("int8.onnx", "onnxruntime"), ("int8.tflite", "LiteRT")):
        assert rows[key]["off_rule"] == 0
        assert rows[key]["rule_error"] <= values["tolerance"]
        assert rows[key]["codes"] > 0


@pytest.mark.full
def test_accuracy_on_a_data_set(checkpoint_path: Path, files: list[Path], capsys: Any) -> None:
    arguments = [
        checkpoint_path,
        *files[2:],
        "--data",
        "digits",
        "--count",
        "30",
        "--runtimes",
        "onnxruntime",
        "litert",
    ]
    assert run([*arguments, "--json", "-"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["inputs"] == 30
    assert [row["runtime"] for row in values["rows"]] == ["onnxruntime", "LiteRT"]
    assert 0 <= values["accuracy"] <= 1
    assert all(0 <= row["accuracy"] <= 1 for row in values["rows"])


def test_a_float_file_that_computes_something_else(
    checkpoint_path: Path, files: list[Path], tmp_path: Path, capsys: Any
) -> None:
    def scale(model: Any, tensors: dict[str, Any]) -> None:
        for name in tensors:  # the codes, and what a DENSIFY makes of them
            if name.startswith("fc.weight_quantized"):
                tensors[name].quantization.scale = tensors[name].quantization.scale * 1.001

    assert run([checkpoint_path, changed(files[1], tmp_path, scale)]) == 1
    assert "first failure: changed.tflite in LiteRT: is off PyTorch by" in capsys.readouterr().out


@pytest.mark.full
def test_codes_that_part_where_the_rules_agree(
    checkpoint_path: Path, files: list[Path], tmp_path: Path, capsys: Any
) -> None:
    """A bias was changed: the runtime is off its own rule, which explains nothing, even where classes are alike."""
    assert run([checkpoint_path, files[2], changed(files[3], tmp_path, move_a_bias), "--json", "-"]) == 1
    values = json.loads(capsys.readouterr().out)
    (pair,) = [pair for pair in values["pairs"] if "changed" in pair["second"]]
    assert pair["unexplained"]
    assert set(pair["unexplained"].values()) == {"block1.conv1: QLinearConv and CONV_2D part there for equal operands"}
    (row,) = [row for row in values["rows"] if row["file"] == "changed.tflite"]
    assert set(row["off_rule_layers"]) == set(row["beyond_ties"]) == {"block1.conv1"}


def test_bad_input(run_command: Any, checkpoint_path: Path, files: list[Path], make_checkpoint: Any) -> None:
    cases: list[tuple[list[Any], str]] = [
        ([checkpoint_path, "no.onnx"], "no.onnx: no such file"),
        ([checkpoint_path, files[1], "--runtimes", "onnxruntime"], "none of the runtimes onnxruntime takes it"),
        ([checkpoint_path, files[0], "--count", "0"], "expected an integer of at least 1, found '0'"),
        ([checkpoint_path], "the following arguments are required: FILE"),
        ([make_checkpoint(input_size=12), files[1]], "is it the file of another network?"),
        ([checkpoint_path, files[0], "--data", "nothing"], "unknown data set 'nothing'"),
    ]
    for arguments, message in cases:
        done = run_command("runtime_tests.runtimes", *arguments)
        assert done.returncode == 2, (arguments, done)
        assert message in done.stderr, (arguments, done.stderr)
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert done.stdout == ""
