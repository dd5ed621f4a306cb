"""The integer contract sees what it promises to see: files broken on purpose, one way each."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import codeq
from codeq.checkpoint import Checkpoint
from export import ExportError, check_parity, export_onnx
from export.metadata import KEY
from export.onnx.sessions import read_metadata


@pytest.fixture(scope="module")
def loaded(checkpoint_path: Path) -> Checkpoint:
    return codeq.load(checkpoint_path)


@pytest.fixture(scope="module")
def exported(loaded: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("integer") / "net.onnx"
    x = loaded.held_inputs
    assert x is not None
    export_onnx(loaded.model, (x[:2],), path, storage="dense", activations="int8", calibration=x, check_inputs=(x,))
    return path


def change(name: str, edit: Callable[[np.ndarray], None]) -> Callable[[onnx.ModelProto], None]:
    def apply(model: onnx.ModelProto) -> None:
        tensor = next(item for item in model.graph.initializer if item.name == name)
        array = np.array(numpy_helper.to_array(tensor))
        edit(array)
        tensor.CopyFrom(numpy_helper.from_array(array, name))

    return apply


def add_to_first(amount: int) -> Callable[[np.ndarray], None]:
    def edit(values: np.ndarray) -> None:
        values.reshape(-1)[0] += amount

    return edit


def shift_zero_point(model: onnx.ModelProto) -> None:
    node = next(node for node in model.graph.node if node.output[0] == "block1.conv2_quantized")
    node.input[2] = "shifted"
    model.graph.initializer.append(numpy_helper.from_array(np.uint8(3), "shifted"))


def drop_relu(model: onnx.ModelProto) -> None:
    """Take another tensor's zero point behind a relu: negative values come through."""
    for node in model.graph.node:
        if "block1.conv1_scale" in node.input:
            node.input[2] = "half"
    model.graph.initializer.append(numpy_helper.from_array(np.uint8(128), "half"))


FAULTS: dict[str, tuple[Callable[[onnx.ModelProto], None], str]] = {
    "bias": (change("block1.conv1.bias_quantized", add_to_first(400)), "block1.conv1.bias_quantized: it is not"),
    "output scale": (change("fc.bias_scale", lambda s: np.multiply(s, 1.1, out=s)), "fc.bias_scale: it is not"),
    "far scale": (change("block2.add_scale", lambda s: np.multiply(s, 1.01, out=s)), "block2.add_scale: it is not"),
    "code": (change("block3.conv1.weight_quantized", add_to_first(1)), "block3.conv1.weight: "),
    "zero point": (shift_zero_point, "block1.conv2 at enable_all"),
    "last bias": (change("fc.bias_quantized", add_to_first(1)), "fc.bias_quantized: it is not"),
    "relu": (drop_relu, "block1.conv1 at enable_all"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_file_fails(fault: str, loaded: Checkpoint, exported: Path, tmp_path: Path) -> None:
    edit, expected = FAULTS[fault]
    model = onnx.load(exported)
    edit(model)
    onnx.save(model, tmp_path / "net.onnx")
    assert loaded.held_inputs is not None
    verdict = check_parity(tmp_path / "net.onnx", loaded.model, loaded.held_inputs)
    assert not verdict.ok
    assert verdict.first_failure.startswith(expected), verdict
    assert "first failure: " in str(verdict)


def test_the_file_as_written_holds_when_its_program_is_rebuilt(loaded: Checkpoint, exported: Path) -> None:
    assert loaded.held_inputs is not None
    done: list[float] = []
    verdict = check_parity(
        exported, loaded.model, loaded.held_inputs, on_progress=lambda share, detail: done.append(share)
    )
    assert verdict.ok, verdict
    assert done == sorted(done)
    assert done[-1] == 1.0
    assert verdict.differing(exact=True) == 0
    assert verdict.elements(exact=True) > 100_000
    assert {check.setting for check in verdict.outputs} == {"disable_all", "basic", "enable_all"}
    assert {check.batch_size for check in verdict.outputs} == {1, 3}
    assert all(check.differing == 0 for check in verdict.outputs if check.setting == "enable_all")
    assert 0 < verdict.program_error <= verdict.program_tolerance
    # Fake quantization is not the integer reference, and is not taken for it.
    assert [item.name for item in verdict.reported] == [
        "fake quantization in float",
        "the network with float32 activations",
    ]
    assert max(map(len, str(verdict).splitlines())) <= 100


def test_another_network_fails(loaded: Checkpoint, exported: Path, make_checkpoint: Callable[..., Path]) -> None:
    other = codeq.load(make_checkpoint(theta=0.7))
    assert loaded.held_inputs is not None
    assert not check_parity(exported, other.model, loaded.held_inputs).ok


def test_a_file_without_a_quantized_tensor_is_refused(loaded: Checkpoint, exported: Path, tmp_path: Path) -> None:
    model = onnx.load(exported)
    for node in model.graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == "block1.add_quantized":
                    names[index] = "renamed"
    onnx.save(model, tmp_path / "net.onnx")
    assert loaded.held_inputs is not None
    with pytest.raises(ExportError, match=r"has no tensor 'block1.add_quantized'; was it changed"):
        check_parity(tmp_path / "net.onnx", loaded.model, loaded.held_inputs)


@pytest.mark.parametrize("change_text", [('"zero_point":', '"zero":'), ('"scale":', '"scale":-')])
def test_damaged_grids_are_refused(change_text: tuple[str, str], exported: Path) -> None:
    model = onnx.load(exported)
    (entry,) = [entry for entry in model.metadata_props if entry.key == KEY]
    entry.value = entry.value.replace(*change_text)
    with pytest.raises(ExportError, match="metadata is damaged"):
        read_metadata(model, "net.onnx")


def test_a_convolution_in_other_groups_is_bad_input(exported: Path, loaded: Checkpoint, tmp_path: Path) -> None:
    model = onnx.load(exported)
    node = next(node for node in model.graph.node if node.name == "block1.conv2")
    next(attribute for attribute in node.attribute if attribute.name == "group").i = 4
    path = tmp_path / "net.onnx"
    onnx.save(model, path)
    with pytest.raises(ExportError, match=r"cannot run it \(.*Conv") as caught:
        check_parity(path, loaded.model, loaded.held_inputs)
    assert str(caught.value).isprintable()
