"""What has a kernel on codes, or only turns values around, reads codes: no pair of quantizers stands around it."""

from collections import Counter
from pathlib import Path

import onnx
import pytest

from export import export_onnx, export_tflite
from export.tflite.runtime import interpreter
from tests.cases import CASES
from tests.export.test_cases import build

MOVED = {
    "flip": {"GATHER": 2},
    "roll": {"GATHER": 2},
    "picked": {"GATHER": 2},
    "picked on two axes": {"GATHER": 1},
    "largest of an axis": {"REDUCE_MAX": 1},
    "largest of windows": {"MAX_POOL_2D": 1},
    "nearest, exact": {"RESIZE_NEAREST_NEIGHBOR": 1},
    "patches": {"CONCATENATION": 1, "MUL": 0},
}
"""By case: operators of the .tflite file."""
SHOWN = ("flip", "picked", "largest of an axis")
NAMES = [pytest.param(name, marks=[] if name in SHOWN else pytest.mark.full) for name in MOVED]


@pytest.mark.parametrize("name", NAMES)
def test_onnx_moves_codes(name: str, tmp_path: Path) -> None:
    model, inputs = build(CASES[f"{name}, read"])
    report = export_onnx(model, inputs, tmp_path / "net.onnx", activations="int8")
    assert report.verdict.ok
    graph = onnx.load(tmp_path / "net.onnx").graph
    made = Counter(node.op_type for node in graph.node)
    assert made["QuantizeLinear"] == 3, made  # the input, and what each of the two layers makes
    makers = {output: node.op_type for node in graph.node for output in node.output}
    read = [makers.get(node.input[0]) for node in graph.node if node.op_type == "Conv"]
    assert read == ["DequantizeLinear"] * 2, read  # codes up to each layer


@pytest.mark.parametrize("name", NAMES)
def test_tflite_moves_codes(name: str, tmp_path: Path) -> None:
    model, inputs = build(CASES[f"{name}, read"])
    report = export_tflite(model, inputs, tmp_path / "net.tflite", activations="int8")
    assert report.verdict.ok
    made = Counter(found["op_name"] for found in _operators(tmp_path / "net.tflite"))
    assert made["DEQUANTIZE"] <= 1, made  # the output alone
    assert made["QUANTIZE"] == 1, made  # the input alone
    assert {operator: made[operator] for operator in MOVED[name]} == MOVED[name], made


@pytest.mark.parametrize(
    ("name", "expected"),
    [("chain: u-net, transposed", {"TRANSPOSE_CONV": 2}), ("chain: u-net, bilinear", {"RESIZE_BILINEAR": 2})],
    ids=["transposed", "bilinear"],
)
def test_a_u_net_has_one_quantizer_at_each_end(name: str, expected: dict[str, int], tmp_path: Path) -> None:
    model, inputs = build(CASES[name])
    report = export_tflite(model, inputs, tmp_path / "net.tflite", activations="int8")
    assert report.verdict.ok
    assert not any(check.differing for check in report.verdict.codes)
    made = Counter(found["op_name"] for found in _operators(tmp_path / "net.tflite"))
    assert made["DEQUANTIZE"] == 1, made  # the output; each up-sampling had one
    assert {operator: made[operator] for operator in expected} == expected


def _operators(path: Path) -> list[dict[str, str]]:
    kernels = interpreter()
    loaded = kernels.Interpreter(
        str(path), experimental_op_resolver_type=kernels.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    )
    return list(loaded._get_ops_details())
