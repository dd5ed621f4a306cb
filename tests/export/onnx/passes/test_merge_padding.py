"""A convolution pads its own input: what is merged, what stays, and that no value changes."""

import numpy as np
import pytest

from export.onnx.passes.merge_padding import merge_padding
from tests.export.onnx.passes.graphs import model, run

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    ("pad", "pads", "merged"),
    [
        ("p = Pad(x, a)", "{0, 0, 1, 2, 0, 0, 3, 0}", [2, 2, 4, 0]),
        ("p = Pad(x, a, f)", "{0, 0, 1, 1, 0, 0, 1, 1}", [2, 1, 2, 1]),
        ('p = Pad<mode="reflect">(x, a)', "{0, 0, 1, 1, 0, 0, 1, 1}", None),
        ("p = Pad(x, a, g)", "{0, 0, 1, 1, 0, 0, 1, 1}", None),
        ("p = Pad(x, a)", "{0, 1, 0, 0, 0, 0, 0, 0}", None),
        ("p = Pad(x, a)", "{0, 0, -1, 0, 0, 0, 0, 0}", None),
        ("p = Pad(x, a)  other = Relu(p)", "{0, 0, 1, 1, 0, 0, 1, 1}", None),
    ],
)
def test_a_convolution_pads_its_own_input(pad: str, pads: str, merged: list[int] | None) -> None:
    channels = 3 if pads.startswith("{0, 1") else 2
    weight = f"float[1, {channels}, 2, 2] w = {{{', '.join(['0.5'] * 4 * channels)}}}"
    outputs = "float[a0, b0, c0, d0] y" + (", float[a0, b0, c0, d0] other" if "other" in pad else "")
    text = (
        f"g (float[1, 2, 5, 5] x) => ({outputs}) <int64[8] a = {pads}, float f = {{0.0}}, float g = {{1.0}}, {weight}> "
        f"{{ {pad} y = Conv<pads=[1, 0, 1, 0]>(p, w) }}"
    )
    before, after = model(text), model(text)
    assert merge_padding(after) == (merged is not None)
    x = np.random.default_rng(0).standard_normal((1, 2, 5, 5)).astype(np.float32)
    np.testing.assert_allclose(run(before, x), run(after, x), rtol=1e-6)
    if merged is not None:
        conv = next(node for node in after.graph if node.op_type == "Conv")
        assert list(conv.attributes.get_ints("pads", [])) == merged
