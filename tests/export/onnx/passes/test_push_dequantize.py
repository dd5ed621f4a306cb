"""Codes move instead of floats: what is pushed, what stays, and that no value changes."""

import numpy as np
import onnx_ir as ir
import pytest

from export.onnx.passes.push_dequantize import push_dequantize
from tests.export.onnx.passes.graphs import model, run

pytestmark = pytest.mark.quick


def operators(graph: ir.Model) -> list[str]:
    used = {value for node in graph.graph for value in node.inputs} | set(graph.graph.outputs)
    return [node.op_type for node in graph.graph if set(node.outputs) & used]


GRID = "float s = {0.5}, uint8 z = {7}"
QUANTIZE = "q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)"


@pytest.mark.parametrize(
    ("body", "initializers", "codes"),
    [
        ("y = Slice(d, a, b)", "int64[1] a = {1}, int64[1] b = {3}", ["Slice"]),
        ("y = Transpose<perm=[1, 0]>(d)", "", ["Transpose"]),
        ("y = Reshape(d, a)", "int64[1] a = {-1}", ["Reshape"]),
        ("y = Pad(d, a)", "int64[4] a = {1, 0, 0, 2}", ["Pad"]),
        ("y = Pad(d, a, f)", "int64[4] a = {1, 0, 0, 2}, float f = {0.0}", ["Pad"]),
        ('y = Pad<mode="edge">(d, a)', "int64[4] a = {1, 0, 0, 2}", ["Pad"]),
        ("t = Transpose<perm=[1, 0]>(d)  y = Reshape(t, a)", "int64[1] a = {-1}", ["Transpose", "Reshape"]),
        ("y = Concat<axis=0>(d, d)", "", ["Concat"]),
        # Near misses: another padding value, another grid, no move.
        ("y = Pad(d, a, f)", "int64[4] a = {1, 0, 0, 2}, float f = {1.0}", None),
        ("e = DequantizeLinear(q, t, z)  y = Concat<axis=0>(d, e)", "float t = {0.25}", None),
        ("y = Relu(d)", "", None),
    ],
)
def test_codes_move_instead_of_floats(body: str, initializers: str, codes: list[str] | None) -> None:
    constants = ", ".join(part for part in (GRID, initializers) if part)
    text = f"g (float[4, 5] x) => (float[a0, b0] y) <{constants}> {{{QUANTIZE} {body}}}"
    before, after = model(text), model(text)
    assert push_dequantize(after) == len(codes or [])
    x = np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32) * 9
    np.testing.assert_array_equal(run(before, x), run(after, x))
    if codes is None:
        assert operators(after) == operators(before)
    else:
        assert operators(after) == ["QuantizeLinear", *codes, "DequantizeLinear"]
    assert push_dequantize(after) == 0


def test_a_result_that_is_quantized_once_more_keeps_its_name() -> None:
    # `m` is moved, and quantized on a grid of its own under the name that a moved value would take.
    text = (
        f"g (float[4, 5] x) => (float[a0, b0] y) <{GRID}, float t = {{0.25}}, int64[4] i = {{3, 1, 1, 0}}> "
        f"{{{QUANTIZE} m = Gather(d, i) m_quantized = QuantizeLinear(m, t, z) y = DequantizeLinear(m_quantized, t, z)}}"
    )
    before, after = model(text), model(text)
    assert push_dequantize(after) == 1
    names = [value.name for node in after.graph for value in node.outputs]
    assert len(names) == len(set(names))
    x = np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32)
    np.testing.assert_array_equal(run(before, x), run(after, x))
