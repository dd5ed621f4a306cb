"""Layers are matched with what onnxruntime made of them."""

from typing import Any

import pytest

from codeq.activations.plan import FloatLayer
from export.onnx.kernel_names import KERNEL_NAMES
from export.onnx.kernels import EXACT_KERNELS, is_integer, open_optimized, report_kernels
from export.onnx.sessions import session_options
from export.program.program import ActivationRecord, QuantizedLayer

pytestmark = pytest.mark.quick

KIND = next(iter(KERNEL_NAMES))


@pytest.mark.parametrize(
    ("kernel", "integer"),
    [("QLinearConv", True), ("QGemm", True), ("MatMulInteger", True), ("Conv", False), ("QuantizeLinear", False)],
)
def test_which_kernels_compute_in_integers(kernel: str, integer: bool) -> None:
    assert is_integer(kernel) == integer


def test_kernels_that_are_followed_are_integer_ones() -> None:
    assert all(is_integer(kernel) for kernel in EXACT_KERNELS - {"QuantizeLinear"})


def test_rows_are_in_the_order_of_the_program_and_say_why_not() -> None:
    layers = tuple(QuantizedLayer(name, "conv2d", KIND) for name in ("b", "a", "c"))
    record = ActivationRecord(layers, (FloatLayer("d", "gelu", "no integer kernel"),), {}, (), ())
    rows = report_kernels(record, {"a": "QLinearConv", "b": "Conv"})
    reason = f"onnxruntime made no {KERNEL_NAMES[KIND]} of it"
    assert [(row.name, row.kernel, row.reason) for row in rows] == [
        ("b", "Conv", reason),
        ("a", "QLinearConv", ""),
        ("c", "none", reason),
        ("d", "float", "no integer kernel"),
    ]


def test_the_optimized_graph_keeps_a_layer_s_name(small_file: Any) -> None:
    path, *_ = small_file(activations="int8")
    session, nodes = open_optimized(path, session_options("enable_all"), path)
    assert nodes["0"] == "QGemm"
    assert len(session.get_inputs()) == 1
