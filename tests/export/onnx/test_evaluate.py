"""Values that depend on no input are computed alone; nothing else of the file is run."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from export.errors import ExportError
from export.onnx.evaluate import ancestors, compute_values

pytestmark = pytest.mark.quick

MODEL = onnx.parser.parse_model(
    '<ir_version: 8, opset_import: ["" : 13]> g (float[2] x) => (float[2] y) '
    "<float[2] a = {1, 2}, float[2] b = {3, 4}, float[2] c = {9, 9}> "
    "{ s = Add(a, b)  t = Mul(s, a)  u = Add(x, c)  y = Mul(u, t) }"
)
SOURCE = Path("net.onnx")


def test_what_a_value_is_computed_from() -> None:
    nodes, tensors, sparse = ancestors(MODEL.graph, ["t"])
    assert [node.output[0] for node in nodes] == ["s", "t"]
    assert [tensor.name for tensor in tensors] == ["a", "b"]
    assert sparse == []
    assert [tensor.name for tensor in ancestors(MODEL.graph, ["c"])[1]] == ["c"]


def test_values_by_name() -> None:
    values = compute_values(MODEL, SOURCE, ["t", "s"], "disable_all", {})
    assert {name: value.tolist() for name, value in values.items()} == {"t": [4.0, 12.0], "s": [4.0, 6.0]}
    assert values["t"].dtype == np.float32
    assert compute_values(MODEL, SOURCE, [], "disable_all", {}) == {}


def test_what_cannot_be_computed_names_the_file() -> None:
    with pytest.raises(ExportError, match=r"^net\.onnx: "):
        compute_values(MODEL, SOURCE, ["u"], "disable_all", {})
