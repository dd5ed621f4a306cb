"""A bilinear Resize between codes of one grid stays float: old versions of onnxruntime would cut its fractions off."""

import numpy as np
import pytest

from export.onnx.passes.keep_resizes_float import keep_resizes_float
from tests.export.onnx.passes.graphs import model, run

pytestmark = pytest.mark.quick

LINEAR = 'y = Resize<mode="linear">(d, , f)'


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (f"{LINEAR} c = QuantizeLinear(y, s, z) e = DequantizeLinear(c, s, z)", 1),
        (f"{LINEAR} c = QuantizeLinear(y, t, z) e = DequantizeLinear(c, t, z)", 0),
        ("y = Resize(d, , f) c = QuantizeLinear(y, s, z) e = DequantizeLinear(c, s, z)", 0),
        (f"{LINEAR} e = Relu(y)", 0),
        ('m = Relu(d) y = Resize<mode="linear">(m, , f) c = QuantizeLinear(y, s, z) e = DequantizeLinear(c, s, z)', 0),
    ],
    ids=["one_grid", "another_grid", "nearest", "no_codes_behind", "no_codes_before"],
)
def test_a_sum_stands_in_front(body: str, kept: int) -> None:
    text = (
        "g (float[1, 2, 3, 3] x) => (float[n, c, h, w] e) "
        "<float s = {0.5}, float t = {0.25}, uint8 z = {7}, float[4] f = {1.0, 1.0, 2.0, 2.0}> "
        f"{{q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) {body}}}"
    )
    before, after = model(text), model(text)
    assert keep_resizes_float(after) == kept
    assert [node.op_type for node in after.graph].count("Sum") == kept
    x = np.random.default_rng(0).standard_normal((1, 2, 3, 3)).astype(np.float32) * 9
    np.testing.assert_array_equal(run(before, x), run(after, x))
    assert keep_resizes_float(after) == 0
