"""The comparison across runtimes: what it prints, its exit status, and what it takes for an explanation."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import codeq
from export import export_onnx
from runtime_tests import runtimes
from runtime_tests.agreement.column import EXACT_RULE, differing_per_input
from runtime_tests.agreement.comparison import FLOAT_SUMS, Comparison, _Found, _judge
from runtime_tests.agreement.runtimes_report import LayerPair, Pair, RuntimesReport

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


def explain(
    parted: list[int], by_rule: list[int], off_rule: list[int], kernel: str, error: float, ties: Any = frozenset()
) -> tuple[str, bool]:
    """What is said about one input, of which these layers have so many codes that differ."""

    class Stub:
        unseen = False

        def is_exact(self, name: str) -> bool:
            return kernel != "float"

    comparison = Comparison([])
    comparison.base, comparison.largest = Stub(), 1.0  # type: ignore[assignment]
    names = [f"layer{number}" for number in range(len(parted))]
    pair = Pair("a", "b", {name: LayerPair(name, ("QLinearAdd", kernel)) for name in names})
    counts = [
        {name: np.array([count]) for name, count in zip(names, each, strict=True)}
        for each in (parted, by_rule, off_rule)
    ]
    first = _Found(np.array([[0.0, 1.0]]), np.array([[0.0, 1.0]]), off_rule=dict.fromkeys(names, np.array([0])))
    second = _Found(first.alone + error, first.together + error, off_rule=counts[2], ties=ties)
    return comparison._explain(pair, Stub(), first, second, 0, counts[0], counts[1])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (([0, 3, 9], [0, 1, 0], [0, 0, 0], "ADD", 0.5), ("layer1: QLinearAdd and ADD", True)),
        # A rule that differs further on explains nothing: codes had parted before.
        (
            ([0, 3, 9], [0, 0, 1], [0, 0, 0], "ADD", 0.5),
            ("layer1: QLinearAdd and ADD part there for equal operands", False),
        ),
        # Nor does a runtime that does not follow its rule.
        (
            ([0, 3, 9], [0, 0, 0], [0, 3, 0], "ADD", 0.5),
            ("layer1: QLinearAdd and ADD part there for equal operands", False),
        ),
        (([3], [0], [3], "float", 0.5, {"layer0"}), ("layer0: QLinearAdd and float, a tie in floats", True)),
        (([3], [0], [3], "float", 0.5), ("layer0: QLinearAdd and float part there for equal operands", False)),
        (([0, 0], [0, 0], [0, 0], "ADD", 1e-6), (FLOAT_SUMS, True)),
        (([0, 0], [0, 0], [0, 0], "ADD", 1e-3), ("no code differs, and outputs do", False)),
    ],
    ids=["its rule", "a later rule", "off its rule", "a float kernel", "no tie", "float sums", "nothing"],
)
def test_what_explains_another_class(arguments: Any, expected: tuple[str, bool]) -> None:
    assert explain(*arguments) == expected


def test_kernels_of_one_rule_may_not_differ() -> None:
    pair = Pair("a", "b", {"conv": LayerPair("conv", ("QLinearConv", "CONV_2D"), 100, 2, 1)})
    assert {"QLinearConv", "CONV_2D"} <= EXACT_RULE
    _judge(pair)
    assert pair.failure.startswith("conv: 1 of 100 codes differ for equal operands")
    other = Pair("a", "b", {"add": LayerPair("add", ("QLinearAdd", "ADD"), 100, 2, 1)})
    _judge(other)
    assert other.failure == ""
    report = RuntimesReport(1, 20, None, 1e-5, (), (pair,))
    assert "first failure: conv: 1 of 100 codes differ" in str(report)


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


@pytest.mark.parametrize("shape", [(4, 3), (8, 3), (5, 4, 3)], ids=["batch", "batch x heads", "tokens first"])
def test_codes_are_counted_by_input(shape: tuple[int, ...]) -> None:
    first = np.zeros(shape, np.uint8)
    second = first.copy()
    if len(shape) == 3:
        second[:2, 1] = 1
    else:
        second[len(second) // 4 : len(second) // 2] = 1
    counts = differing_per_input(first, second, 4)
    assert counts.tolist() == [0, np.count_nonzero(second), 0, 0]
    assert differing_per_input(np.zeros(3), np.array([0, 1, 1]), 4).tolist() == [2, 2, 2, 2]


def test_openvino_is_excused_by_its_rule_and_by_ties_only() -> None:
    class Stub:
        unseen = True
        fused = frozenset({"conv"})

    def said(rule: list[float], off_rule: int, ties: set[str]) -> tuple[str, bool]:
        comparison = Comparison([])
        pair = Pair("a", "b", {"conv": LayerPair("conv", ("QLinearConv", "Convolution with Add"))})
        counts = {"conv": np.array([off_rule])}
        first = _Found(np.array([[1.0, 0.0]]), np.array([[1.0, 0.0]]))
        second = _Found(np.array([[0.0, 1.0]]), np.array([[0.0, 1.0]]), np.array([rule]), {}, counts, ties)
        return comparison._explain(pair, Stub(), first, second, 0, counts, counts)  # type: ignore[arg-type]

    assert said([0.0, 1.0], 0, set()) == ("conv: Convolution with Add, not rounded in between", True)
    assert said([1.0, 0.0], 1, {"conv"}) == ("conv: Convolution with Add, a tie", True)
    assert said([1.0, 0.0], 1, set()) == ("conv: Convolution with Add, off the rule by more", False)
    assert said([1.0, 0.0], 0, set()) == ("no code differs from the rule, and the class does", False)
