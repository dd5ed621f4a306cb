"""Graph passes of integer files: what they match, what they leave, and that they change no value."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch

from export.onnx.passes.merge_padding import merge_padding
from export.onnx.passes.push_dequantize import push_dequantize
from export.program.space_to_depth import rearrange_kernel, restore_kernel

pytestmark = pytest.mark.quick

HEADER = '<ir_version: 8, opset_import: ["" : 13]>'


def model(text: str) -> ir.Model:
    return ir.from_proto(onnx.parser.parse_model(HEADER + text))


def run(graph: ir.Model, x: np.ndarray) -> np.ndarray:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(ir.to_proto(graph).SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


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


@pytest.mark.parametrize("kernel", [(5, 5), (6, 7), (7, 7)])
@pytest.mark.parametrize("offset", [(0, 0), (1, 0), (1, 1)])
def test_a_rearranged_kernel_comes_back(kernel: tuple[int, int], offset: tuple[int, int], rng: torch.Generator) -> None:
    weight = torch.randint(-9, 10, (4, 3, *kernel), generator=rng).float()
    rearranged = rearrange_kernel(weight, offset)
    assert rearranged.shape == (4, 12, (kernel[0] + offset[0] + 1) // 2, (kernel[1] + offset[1] + 1) // 2)
    restored = restore_kernel(rearranged, offset, tuple(weight.shape))
    assert restored is not None
    assert torch.equal(restored, weight)
    # Something beside the kernel: not its rearrangement.
    free = (rearrange_kernel(torch.ones_like(weight), offset) == 0).nonzero()
    if len(free):
        rearranged[tuple(free[0])] = 1.0
        assert restore_kernel(rearranged, offset, tuple(weight.shape)) is None
