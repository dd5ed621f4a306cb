"""A probe is the same file with more outputs."""

from pathlib import Path

import onnx
import pytest

from export.errors import ExportError
from export.onnx.probe import with_codes

pytestmark = pytest.mark.quick

MODEL = onnx.parser.parse_model(
    '<ir_version: 8, opset_import: ["" : 13]> g (float[2] x) => (float[2] y) <float s = {0.5}, uint8 z = {7}> '
    "{ q = QuantizeLinear(x, s, z)  y = DequantizeLinear(q, s, z) }"
)


def test_codes_come_behind_the_outputs() -> None:
    before = MODEL.SerializeToString()
    probe = onnx.load_from_string(with_codes(MODEL, ["q"], Path("net.onnx")))
    assert [output.name for output in probe.graph.output] == ["y", "q"]
    assert probe.graph.output[1].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert probe.graph.node == MODEL.graph.node
    assert MODEL.SerializeToString() == before


@pytest.mark.parametrize("name", ["gone", "x"])
def test_a_tensor_that_no_node_makes(name: str) -> None:
    with pytest.raises(ExportError, match=f"^net.onnx: has no tensor '{name}'"):
        with_codes(MODEL, ["q", name], Path("net.onnx"))
