"""Codes are found behind a weight and held to their hash."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from export.errors import ExportError
from export.metadata import WeightMetadata
from export.onnx.stored_weight import codes_names, default_opset, float_weights, is_shared, read_codes

pytestmark = pytest.mark.quick

CODES = np.array([[1, -2], [0, 3]], np.int8)
SOURCE = Path("net.onnx")


def model() -> onnx.ModelProto:
    text = (
        '<ir_version: 8, opset_import: ["" : 13]> g (float[1, 2] x) => (float[1, 2] y) <float s = {0.5}, '
        "float[2, 2] f = {1, 2, 3, 4}, float[2] b = {1, 2}> "
        "{ w = DequantizeLinear(c, s)  h = MatMul(x, w)  k = MatMul(h, f)  y = Add(k, b) }"
    )
    parsed = onnx.parser.parse_model(text)
    parsed.graph.initializer.append(numpy_helper.from_array(CODES, "c"))
    return parsed


def weight(value_name: str | None = "w", digest: str = hashlib.sha256(CODES.tobytes()).hexdigest()) -> WeightMetadata:
    return WeightMetadata("fc.weight", value_name, None, None, 4, 7, 1, 0, False, digest)


def test_codes_are_found_and_read() -> None:
    assert codes_names(model(), [weight()]) == {"fc.weight": "c"}
    ((about, codes),) = read_codes(model(), SOURCE, [weight()])
    assert about == weight()
    np.testing.assert_array_equal(codes, CODES)
    assert list(read_codes(model(), SOURCE, [weight(None)])) == []


def test_other_codes_are_damage() -> None:
    with pytest.raises(ExportError, match=r"the codes of fc\.weight are not those it was written with"):
        list(read_codes(model(), SOURCE, [weight(digest="0" * 64)]))
    with pytest.raises(ExportError, match=r"has no codes of fc\.weight"):
        list(read_codes(model(), SOURCE, [weight("gone")]))


def test_float_weights_have_two_dimensions() -> None:
    assert list(float_weights(model().graph, ["w"])) == ["f"]
    shift = model()
    shift.graph.initializer[1].name = "w_shift"
    assert float_weights(shift.graph, ["w"]) == {}


def test_the_opset_is_onnx_s_own() -> None:
    assert default_opset(model(), SOURCE) == 13
    with pytest.raises(ExportError, match=r"^net\.onnx: imports no operators of ONNX"):
        default_opset(onnx.ModelProto(), SOURCE)


def test_what_is_shared_is_marked_in_its_name() -> None:
    assert is_shared(onnx.helper.make_node("Range", [], ["@positions"]))
    assert not is_shared(onnx.helper.make_node("Range", [], ["c"]))
