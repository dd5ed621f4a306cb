"""A model outside the limits ends in one line before anything of it is computed; files of ours are within them."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import helper

from export.errors import ExportError
from export.inspect import inspect_file
from export.onnx.sessions import load_model
from export.onnx.vet import check_model
from tests.export.onnx.hostile import HOSTILE, external

SECONDS = 5.0


def write(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "net.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_ends_in_one_line(name: str, small_file: Any, tmp_path: Path) -> None:
    model = onnx.load(small_file(storage="packed")[0])
    HOSTILE[name].change(model)
    path = write(model, tmp_path)
    start = time.process_time()
    with pytest.raises(ExportError) as caught:
        inspect_file(path)
    assert time.process_time() - start < SECONDS
    line = str(caught.value)
    assert HOSTILE[name].message in line
    assert line.startswith(f"{path}: ")
    assert line.isprintable()
    assert len(line) < len(str(path)) + 600


@pytest.mark.quick
@pytest.mark.parametrize("storage", ["dense", "sparse", "packed", "smallest"])
def test_files_of_ours_are_within_the_limits(storage: str, small_file: Any) -> None:
    path = small_file(storage=storage)[0]
    sizes = check_model(onnx.load(path), path, ours=True)
    assert sizes["0.weight_quantized"].shape == (3, 4)
    assert sizes["0.weight"].size_bytes == 48


def test_external_data_stay_in_the_folder(small_file: Any, tmp_path: Path) -> None:
    model = onnx.load(small_file(storage="packed")[0])
    external("data")(model)
    path = write(model, tmp_path)
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.write_bytes(bytes(12))
    data = tmp_path / "data"
    load_model(path)  # missing data are for whoever reads them to report
    data.symlink_to(outside)
    with pytest.raises(ExportError, match="leads out of the model's folder"):
        load_model(path)
    data.unlink()
    os.mkfifo(data)
    with pytest.raises(ExportError, match="no ordinary file"):
        load_model(path)
    data.unlink()
    data.write_bytes(bytes(11))
    with pytest.raises(ExportError, match=r"up to byte 12, which has 11"):
        load_model(path)
    data.unlink()
    os.link(path, data)
    with pytest.raises(ExportError, match="in the model itself"):
        load_model(path)


def test_files_of_others_may_hold_what_ours_do_not(tmp_path: Path) -> None:
    branch = helper.make_graph([], "b", [], [])
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    foreign = helper.make_node("Odd", [], ["z"], domain="elsewhere")
    graph = helper.make_graph([node, foreign], "g", [], [helper.make_empty_tensor_value_info("y")])
    check_model(helper.make_model(graph), tmp_path / "net.onnx", ours=False)


def test_files_of_others_are_held_to_what_can_be_told(tmp_path: Path) -> None:
    shape = helper.make_node("Constant", [], ["s"], value_ints=[10**9])
    graph = helper.make_graph([shape, helper.make_node("ConstantOfShape", ["s"], ["y"])], "g", [], [])
    with pytest.raises(ExportError, match=r"'y' is not computed: constants would become 4\.0e\+09 bytes"):
        check_model(helper.make_model(graph), tmp_path / "net.onnx", ours=False)


def replace_relu(*nodes: onnx.NodeProto) -> Callable[[onnx.ModelProto], None]:
    """Put nodes that read `a` and give `b` in the place of the Relu."""

    def change(model: onnx.ModelProto) -> None:
        relu = next(node for node in model.graph.node if node.op_type == "Relu")
        ends = {"a": relu.input[0], "b": relu.output[0]}
        made = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        for node in made:
            node.input[:] = [ends.get(name, name) for name in node.input]
            node.output[:] = [ends.get(name, name) for name in node.output]
        kept = [node for node in model.graph.node if node != relu]
        del model.graph.node[:]
        model.graph.node.extend([*kept, *made])

    return change


LARGE = helper.make_node("Constant", [], ["@s"], value_ints=[3000, 3000])
RUNS = {
    "a tile of 10^14": (
        [
            helper.make_node("Shape", ["a"], ["@h"]),
            helper.make_node("Mul", ["@h", "@s"], ["@t"]),
            helper.make_node("Mul", ["@t", "@s"], ["@u"]),
            helper.make_node("Tile", ["a", "@u"], ["@e"]),
            helper.make_node("ReduceMax", ["@e"], ["b"]),
        ],
        "Tile gives",
    ),
    "400 products": (
        [
            helper.make_node("ReduceMax", ["a"], ["@m"], keepdims=0),
            helper.make_node("Expand", ["@m", "@s"], ["@0"]),
            *(helper.make_node("MatMul", [f"@{n}", f"@{n}"], [f"@{n + 1}"]) for n in range(400)),
            helper.make_node("ReduceMax", ["@400"], ["b"]),
        ],
        "a run takes",
    ),
    "an operator of others": (
        [helper.make_node("Gelu", ["a"], ["b"], domain="com.microsoft")],
        "of 'com.microsoft', which no file of ours has",
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_what_a_run_takes_is_bounded(name: str, small_file: Any, tmp_path: Path) -> None:
    nodes, message = RUNS[name]
    model = onnx.load(small_file()[0])
    replace_relu(LARGE, *nodes)(model)
    with pytest.raises(ExportError, match=message):
        check_model(model, tmp_path / "net.onnx", ours=True)


@pytest.mark.parametrize(
    ("size", "message"), [(0, "has the shape"), (2**31, "has the shape"), (6 * 10**7, "bytes, expected")]
)
def test_a_batch_of_the_file_s_own(size: int, message: str, small_file: Any, tmp_path: Path) -> None:
    model = onnx.load(small_file(dynamic_batch=False)[0])
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = size
    with pytest.raises(ExportError, match=message):
        check_model(model, tmp_path / "net.onnx", ours=True)


def test_a_file_that_has_changed_is_looked_at_again(small_file: Any, tmp_path: Path) -> None:
    model = onnx.load(small_file()[0])
    path = write(model, tmp_path)
    load_model(path)
    load_model(path)
    del model.graph.output[:]
    write(model, tmp_path)
    with pytest.raises(ExportError, match="has no outputs"):
        load_model(path)
