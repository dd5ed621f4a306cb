"""The lowest opset of small graphs, decided node by node."""

import onnx
import onnx_ir as ir
import pytest

from export.onnx.opset import ONNXRUNTIME_BY_OPSET, lowest_opset, oldest_onnxruntime, smallest_ir_version

pytestmark = pytest.mark.quick


def graph(body: str, opset: int = 18) -> ir.Graph:
    text = f'<ir_version: 8, opset_import: ["" : {opset}]> g (float[N, 4] x) => (float[N, M] y) {{ {body} }}'
    model = onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text), strict_mode=True)
    return ir.from_proto(model).graph


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = Relu(x)", (13, "DequantizeLinear")),  # Relu 14 only adds integer types
        ("y = Softmax<axis = -1>(x)", (13, "DequantizeLinear")),
        ("y = Mish(x)", (18, "Mish")),  # new at 18
        ("y = LayerNormalization(x, x)", (17, "LayerNormalization")),
        ("axes = Constant<value_ints = [1]>() y = ReduceMean<keepdims = 1>(x, axes)", (18, "ReduceMean")),  # an input
        ("y = ReduceMean<keepdims = 1>(x)", (13, "DequantizeLinear")),
        ("y, z = Split<axis = 1, num_outputs = 2>(x)", (13, "DequantizeLinear")),  # equal parts need no number
        ("y, z, u = Split<axis = 1, num_outputs = 3>(x)", (18, "Split")),
        (
            's = Constant<value_floats = [1.0, 2.0]>() y = Resize<keep_aspect_ratio_policy = "stretch">(x, "", s)',
            (13, "DequantizeLinear"),
        ),
        ('s = Constant<value_floats = [1.0, 2.0]>() y = Resize<antialias = 1>(x, "", s)', (18, "Resize")),
        ("s = Constant<value_ints = [-1, 2]>() y = Reshape(x, s)", (13, "DequantizeLinear")),
        ("s = Constant<value_ints = [-1, 2]>() y = Reshape<allowzero = 0>(x, s)", (13, "DequantizeLinear")),
        ("s = Constant<value_ints = [0, 2]>() y = Reshape<allowzero = 1>(x, s)", (14, "Reshape")),
    ],
)
def test_lowest_opset(body: str, expected: tuple[int, str]) -> None:
    assert lowest_opset(graph(body)) == expected


def test_softmax_13_is_not_softmax_11() -> None:
    assert lowest_opset(graph("y = Softmax(x)"))[0] == 13


@pytest.mark.parametrize(("opset", "ir_version"), [(13, 7), (14, 7), (15, 8), (18, 8), (19, 9), (21, 10)])
def test_ir_version_is_that_of_the_onnx_release(opset: int, ir_version: int) -> None:
    assert smallest_ir_version(opset) == ir_version


def test_every_opset_up_to_the_newest_has_a_release() -> None:
    assert sorted(ONNXRUNTIME_BY_OPSET) == list(range(13, max(ONNXRUNTIME_BY_OPSET) + 1))
    assert oldest_onnxruntime(13) == "1.6"
    assert oldest_onnxruntime(18) == "1.14"
