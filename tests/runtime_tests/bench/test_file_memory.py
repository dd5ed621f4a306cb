"""A file's memory is of a process of its own, over what that takes without it."""

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from export.errors import ExportError
from runtime_tests.bench.file_memory import measure_in_a_process

VALUES = 4_000_000


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file that adds a constant of 16 MB."""
    constant = helper.make_tensor("w", TensorProto.FLOAT, (VALUES,), bytes(4 * VALUES), raw=True)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ("N", VALUES)) for name in "xy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [x], [y], [constant])
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


@pytest.mark.slow("two processes import the libraries")
@pytest.mark.full
def test_in_a_process(file: Path, tmp_path: Path) -> None:
    assert 4 * 4 * VALUES > measure_in_a_process(file, 1, 1) / 2 > 4 * VALUES
    text = tmp_path / "text.onnx"
    text.write_text("hello")
    with pytest.raises(ExportError, match=r"its memory cannot be measured \(.*is not an ONNX file"):
        measure_in_a_process(text, 1, 1)
