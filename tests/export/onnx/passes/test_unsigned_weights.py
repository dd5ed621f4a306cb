"""Weights read as uint8 have the same values, and what is stored is the same."""

import numpy as np
import pytest

from export.onnx.passes.unsigned_weights import unsigned_weights
from tests.export.onnx.passes.graphs import model, run

pytestmark = pytest.mark.quick

TEXT = """
two_readers (float[2, 3] x) => (float[2, 3] y)
<int8[2, 3] w_quantized = {-128, -127, 0, 1, 126, 127}, float[2] w_scale = {0.5, 0.25}, float w_other = {2.0},
 int8[2] zeros = {0, 0}, int8 zero = {0}>
{
    first = DequantizeLinear<axis = 0>(w_quantized, w_scale, zeros)
    second = DequantizeLinear(w_quantized, w_other, zero)
    product = Mul(x, first)
    y = Add(product, second)
}
"""


def test_values_stay() -> None:
    graph = model(TEXT)
    x = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    before = run(graph, x)
    unsigned_weights(graph, ["w"])
    np.testing.assert_array_equal(run(graph, x), before)
    names = set(graph.graph.initializers)
    assert names == {"w_quantized", "w_scale", "w_other", "codes_offset", "w_zero_point", "w_zero_point_1"}
    stored = graph.graph.initializers["w_quantized"].const_value
    assert stored is not None
    assert stored.numpy().tolist() == [[-128, -127, 0], [1, 126, 127]]
    operators = [node.op_type for node in graph.graph]
    assert operators == ["Cast", "Add", "Cast", "DequantizeLinear", "DequantizeLinear", "Mul", "Add"]
