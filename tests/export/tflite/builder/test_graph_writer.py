"""Names are unique, equal constants one, versions the lowest that know the operands."""

import numpy as np
import pytest

from export.tflite.builder.graph_writer import GraphWriter
from export.tflite.builder.refusal import CannotLower
from export.tflite.builder.value import Value
from export.tflite.file.graph import Tensor, TensorGrid

FLOAT, INT8 = np.dtype(np.float32), np.dtype(np.int8)
GRID = TensorGrid(np.array([0.5], np.float32), 3)


@pytest.fixture
def writer() -> GraphWriter:
    return GraphWriter()


def input_value(writer: GraphWriter, shape: tuple[int, ...] = (1, 6), dtype: np.dtype = FLOAT) -> Value:
    return Value(writer.add_input("x", Tensor("x", shape, dtype, open_batch=(0,))), tuple(range(len(shape))))


def test_names_are_counted(writer: GraphWriter) -> None:
    input_value(writer)
    assert [writer.unused_name(name) for name in ("x", "x", "y")] == ["x_1", "x_2", "y"]


def test_equal_constants_are_one(writer: GraphWriter) -> None:
    first = writer.number(np.array([1, 2], np.int32), "first")
    assert writer.indices((1, 2), "second") == first
    assert writer.number(np.array([1, 2], np.int64)) != first
    assert writer.number(np.array([[1, 2]], np.int32)) != first
    assert writer.tensor(first).name == "first"


def test_an_operator_gets_its_result(writer: GraphWriter) -> None:
    x = input_value(writer)
    like = Tensor("y", (1, 6), FLOAT, open_batch=(0,))
    made = writer.operator(
        "ADD", [x, writer.number(np.float32(1))], like, (0, 1), label="sum", fusedActivationFunction=1
    )
    (operator,) = writer.graph.operators
    assert (operator.code, operator.version, operator.options) == ("ADD", 1, {"fusedActivationFunction": 1})
    assert operator.outputs == (made.tensor,)
    assert (writer.tensor(made).name, writer.tensor(made).open_batch) == ("y/sum", (0,))


def test_codes_get_a_later_version(writer: GraphWriter) -> None:
    x = input_value(writer)
    codes = writer.operator("QUANTIZE", [x], Tensor("q", (1, 6), INT8, quantization=GRID), x.order)
    assert codes.quantization is GRID
    writer.operator("DEQUANTIZE", [codes], Tensor("y", (1, 6), FLOAT), x.order)
    assert [operator.version for operator in writer.graph.operators] == [1, 2]


def test_a_shape_with_an_open_batch(writer: GraphWriter) -> None:
    made = writer.reshape(input_value(writer), (1, 2, 3), (0,), "y")
    shape = writer.graph.operators[0].inputs[1]
    assert writer.tensor(shape).data.tolist() == [-1, 2, 3]  # type: ignore[union-attr]
    assert (made.order, writer.tensor(made).shape) == ((0, 1, 2), (1, 2, 3))
    with pytest.raises(CannotLower, match="two of its sizes depend on the batch"):
        writer.reshape(made, (1, 6), (0, 1), "z")
