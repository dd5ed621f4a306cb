"""What is read from a file of ours."""

from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from export.errors import ExportError
from export.onnx.stored_file import files_of, read_file

pytestmark = pytest.mark.quick


def test_a_file_with_an_open_batch(small_file: Any) -> None:
    path, *_ = small_file()
    stored = read_file(path)
    assert (stored.path, stored.fixed_batch, stored.approximate) == (path, None, False)
    assert [weight.name for weight in stored.metadata.weights] == ["0.weight"]
    assert files_of(path) == [path]


def test_a_file_of_one_batch_size(small_file: Any) -> None:
    assert read_file(small_file(dynamic_batch=False)[0]).fixed_batch == 2


def test_the_data_that_a_file_names_belongs_to_it(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [1], [0.0])
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="net.data")
    path.write_bytes(helper.make_model(helper.make_graph([], "g", [], [], [tensor])).SerializeToString())
    assert files_of(path) == [path, tmp_path / "net.data"]


def test_a_file_of_another_writer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(helper.make_graph([], "g", [], [])), path)
    with pytest.raises(ExportError, match=r"expected a file written by export\.onnx"):
        read_file(path)
