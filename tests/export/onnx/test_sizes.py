"""Sizes that are worked out are those that onnxruntime computes, for every operator with a rule."""

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.onnx.sizes import RULES, Sized, UnknownSizeError, sized_outputs, sized_tensor

pytestmark = pytest.mark.quick

OPSET = 18
A = np.arange(-6, 6).reshape(3, 4).astype(np.int32)
FLAT = np.arange(5, dtype=np.int64)
BYTES = np.arange(12, dtype=np.uint8).reshape(3, 4)
FLAGS = A > 0
FLOATS = A.astype(np.float32)
ONE = np.array(1.0, np.float32)
CASES: dict[str, tuple[list[np.ndarray], dict[str, Any]]] = {
    "Abs": ([A], {}),
    "Add": ([A, A[:1]], {}),
    "And": ([FLAGS, FLAGS[:, :1]], {}),
    "Cast": ([A], {"to": TensorProto.UINT8}),
    "Concat": ([A, A], {"axis": -1}),
    "Constant": ([], {"value_ints": [4, 5, 6]}),
    "ConstantOfShape": ([np.array([2, 0, 3])], {"value": helper.make_tensor("", TensorProto.INT8, [1], [3])}),
    "CumSum": ([A, np.array(0)], {}),
    "DequantizeLinear": ([BYTES, ONE], {}),
    "Div": ([A, np.array(2, np.int32)], {}),
    "Equal": ([A, A], {}),
    "Expand": ([A[:, :1], np.array([2, 3, 5])], {}),
    "Gather": ([A, np.array([[0, 2], [1, 1]])], {"axis": 1}),
    "GatherElements": ([A, np.array([[0, 1]])], {"axis": 0}),
    "Greater": ([A, A[0]], {}),
    "Identity": ([A], {}),
    "Less": ([A, A[0]], {}),
    "MatMul": ([FLOATS, FLOATS.T], {}),
    "MatMulInteger": ([BYTES, BYTES.T.copy()], {}),
    "Mod": ([A, np.array(3, np.int32)], {}),
    "Mul": ([A, A[:, :1]], {}),
    "Neg": ([A], {}),
    "Not": ([FLAGS], {}),
    "Or": ([FLAGS, FLAGS], {}),
    "QuantizeLinear": ([FLOATS, ONE], {}),
    "Range": ([np.array(7), np.array(-4), np.array(-3)], {}),
    "Reshape": ([A, np.array([0, -1, 2])], {}),
    "ScatterElements": ([A, np.array([[0, 1]]), A[:1, :2]], {"axis": 0}),
    "Shape": ([A], {}),
    "Sign": ([A], {}),
    "Slice": ([A, np.array([-1, 3]), np.array([-9, 1]), np.array([0, 1]), np.array([-1, -1])], {}),
    "Sub": ([A, A], {}),
    "Transpose": ([A[None]], {"perm": [2, 0, 1]}),
    "Unsqueeze": ([A, np.array([0, -1])], {}),
    "Where": ([FLAGS, A, A[:, :1]], {}),
    # By onnx's inference.
    "Exp": ([FLOATS], {}),
    "Flatten": ([FLOATS], {}),
    "Gemm": ([FLOATS, FLOATS.T], {}),
    "ReduceSum": ([FLOATS, np.array([1])], {"keepdims": 0}),
}


def sizes(operator: str, arrays: list[np.ndarray], attributes: dict[str, Any]) -> tuple[Sized, int]:
    node = helper.make_node(operator, [f"i{index}" for index in range(len(arrays))], ["y"], **attributes)
    inputs = [sized_tensor(numpy_helper.from_array(array)) for array in arrays]
    (value,), steps = sized_outputs(node, inputs, {item.name: item for item in node.attribute}, OPSET)
    return value, steps


@pytest.mark.parametrize("operator", CASES)
def test_onnxruntime_computes_that_size(operator: str) -> None:
    arrays, attributes = CASES[operator]
    names = [f"i{index}" for index in range(len(arrays))]
    graph = helper.make_graph(
        [helper.make_node(operator, names, ["y"], **attributes)],
        "g",
        [],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(array, name) for name, array in zip(names, arrays, strict=True)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    (found,) = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {})
    value, steps = sizes(operator, arrays, attributes)
    assert value.shape == found.shape
    assert value.size_bytes == found.nbytes
    assert steps >= found.size
    if value.values is not None:
        np.testing.assert_array_equal(value.values, found)


def test_every_rule_has_its_case() -> None:
    assert RULES.keys() <= CASES.keys()


def test_products_take_more_steps() -> None:
    assert sizes("MatMul", [FLOATS, FLOATS.T], {})[1] == 3 * 3 * 4 + 9 + 12 + 12


@pytest.mark.parametrize(
    ("operator", "arrays", "attributes", "reason"),
    [
        ("Expand", [A, A.astype(np.float32)], {}, "depends on values that are computed"),
        ("Expand", [A, np.array([-1])], {}, "is expanded to"),
        ("Reshape", [A, np.array([5, -1])], {}, "elements are reshaped to"),
        ("Range", [np.array(0), np.array(9), np.array(0)], {}, "do not fit it"),
        ("Gather", [A, A], {"axis": 7}, "its axis is 7 of 2"),
        ("MatMul", [FLOATS, FLOATS], {}, "it multiplies"),
        ("Concat", [A, A.T], {"axis": 0}, "differ in their other axes"),
        ("Transpose", [A], {"perm": [0, 0]}, "its axes are"),
        ("Add", [A, A[:, :3]], {}, "do not fit it"),
        ("Cast", [A], {}, "do not fit it"),
        ("NonZero", [A], {}, "cannot be told"),
        ("Nothing", [A], {}, "do not fit it"),
    ],
)
def test_what_cannot_be_told(operator: str, arrays: list[np.ndarray], attributes: dict[str, Any], reason: str) -> None:
    with pytest.raises(UnknownSizeError, match=reason):
        sizes(operator, arrays, attributes)


def test_a_size_below_zero_is_none() -> None:
    with pytest.raises(UnknownSizeError, match="it has the shape"):
        sized_tensor(onnx.TensorProto(dims=[-1, 2], data_type=TensorProto.INT8))
