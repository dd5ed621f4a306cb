"""The contract sees every fault it promises to see: files broken on purpose, one way each."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

import codeq
from codeq.checkpoint import Checkpoint
from export import ExportError, check_parity, export_onnx
from export.metadata import KEY
from export.parity.outputs import RELATIVE_TOLERANCE, compare_output


@pytest.fixture(scope="module")
def loaded(checkpoint_path: Path) -> Checkpoint:
    return codeq.load(checkpoint_path)


@pytest.fixture(scope="module")
def exported(loaded: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("verify") / "net.onnx"
    assert loaded.held_inputs is not None
    export_onnx(loaded.model, (loaded.held_inputs[:2],), path, storage="dense")
    return path


def change(model: onnx.ModelProto, name: str, edit: Callable[[np.ndarray], np.ndarray]) -> None:
    tensor = next(item for item in model.graph.initializer if item.name == name)
    array = np.array(numpy_helper.to_array(tensor))
    tensor.CopyFrom(numpy_helper.from_array(edit(array), name))


def one_code_off(codes: np.ndarray) -> np.ndarray:
    codes.reshape(-1)[np.flatnonzero(codes)[0]] -= 1
    return codes


def one_ulp_off(scale: np.ndarray) -> np.ndarray:
    scale[0] = np.nextafter(scale[0], np.float32(np.inf))
    return scale


def nan_bias(bias: np.ndarray) -> np.ndarray:
    bias[0] = np.nan
    return bias


def wrong_bias(bias: np.ndarray) -> np.ndarray:
    bias[2] += np.float32(0.01)
    return bias


def rename_output(model: onnx.ModelProto) -> None:
    add = onnx.helper.make_node("Add", ["output", "output"], ["doubled"])
    model.graph.node.append(add)
    model.graph.output.append(onnx.helper.make_tensor_value_info("doubled", onnx.TensorProto.FLOAT, None))


def transpose_output(model: onnx.ModelProto) -> None:
    model.graph.node[-1].output[0] = "before"
    model.graph.node.append(onnx.helper.make_node("Unsqueeze", ["before", "axes"], ["output"]))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "axes"))
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, None))


def double_output(model: onnx.ModelProto) -> None:
    model.graph.node[-1].output[0] = "before"
    model.graph.node.append(onnx.helper.make_node("Cast", ["before"], ["output"], to=onnx.TensorProto.DOUBLE))
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("output", onnx.TensorProto.DOUBLE, None))


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (
            lambda m: change(m, "block1.conv1.weight_quantized", one_code_off),
            "block1.conv1.weight: 1 of 2304 values differ",
        ),
        (lambda m: change(m, "block1.conv1.weight_scale", one_ulp_off), "block1.conv1.weight: .* values differ"),
        (lambda m: change(m, "fc.bias", nan_bias), "NaN values"),
        (lambda m: change(m, "fc.bias", wrong_bias), "max_abs_error 0.01 above"),
        (rename_output, "2 outputs, expected 1"),
        (transpose_output, r"shape \(\d+, 1, 10\), expected \(\d+, 10\)"),
        (double_output, "dtype float64, expected float32"),
    ],
    ids=["code", "scale", "nan", "bias", "extra_output", "shape", "dtype"],
)
def test_a_broken_file_fails(
    loaded: Checkpoint, exported: Path, tmp_path: Path, fault: Callable[[onnx.ModelProto], None], expected: str
) -> None:
    model = onnx.load(exported)
    fault(model)
    path = tmp_path / "broken.onnx"
    onnx.save(model, path)
    assert loaded.held_inputs is not None
    verdict = check_parity(path, loaded.model, loaded.held_inputs)
    assert not verdict.ok
    assert re.search(expected, verdict.first_failure), verdict.first_failure
    assert "FAILED" in str(verdict)


def test_an_intact_file_holds(loaded: Checkpoint, exported: Path) -> None:
    assert loaded.held_inputs is not None
    verdict = check_parity(exported, loaded.model, loaded.held_inputs)
    assert verdict.ok
    assert verdict.first_failure == ""
    assert {(check.setting, check.batch_size) for check in verdict.outputs if check.decides} == {
        (level, size) for level in ("disable_all", "basic", "enable_all") for size in (1, 3)
    }
    assert [check.setting for check in verdict.outputs if not check.decides] == ["enable_all, default options"]
    assert len(verdict.weights) == 10
    assert verdict.to_dict()["ok"] is True
    assert max(map(len, str(verdict).splitlines())) <= 100


def test_weights_are_those_of_the_forward_pass_not_of_the_encoder(
    loaded: Checkpoint, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = codeq.DeadZoneQuantizer.forward
    monkeypatch.setattr(codeq.DeadZoneQuantizer, "forward", lambda self, w: forward(self, w) * (1 + 1e-6))
    assert loaded.held_inputs is not None
    verdict = check_parity(exported, loaded.model, loaded.held_inputs)
    assert not any(check.ok for check in verdict.weights)


def test_a_file_for_one_input_fails_at_batch_3_even_with_one_held_input(
    loaded: Checkpoint, exported: Path, tmp_path: Path
) -> None:
    model = onnx.load(exported)
    reshape = next(node for node in model.graph.node if node.op_type == "Reshape")
    change(model, reshape.input[1], lambda shape: np.array([1, -1]))
    path = tmp_path / "one.onnx"
    onnx.save(model, path)
    assert loaded.held_inputs is not None
    verdict = check_parity(path, loaded.model, loaded.held_inputs[:1])
    assert verdict.inputs == 1
    assert {check.batch_size for check in verdict.outputs if not check.ok} == {3}


def test_a_weight_of_another_network_fails(exported: Path, make_checkpoint: Callable[..., Path]) -> None:
    other = codeq.load(make_checkpoint(theta=0.8))
    assert other.held_inputs is not None
    assert not check_parity(exported, other.model, other.held_inputs).ok


def test_a_file_cannot_excuse_a_weight_that_it_holds(loaded: Checkpoint, exported: Path, tmp_path: Path) -> None:
    model = onnx.load(exported)
    (entry,) = (item for item in model.metadata_props if item.key == KEY)
    assert '"value_name":"fc.weight"' in entry.value
    entry.value = entry.value.replace('"value_name":"fc.weight"', '"value_name":null')
    path = tmp_path / "excused.onnx"
    onnx.save(model, path)
    assert loaded.held_inputs is not None
    verdict = check_parity(path, loaded.model, loaded.held_inputs)
    assert verdict.first_failure == "fc.weight: the file calls it unused, but holds it"


@pytest.mark.parametrize("axis", [9, -9, 1])
def test_a_wrong_axis_in_the_metadata_fails(loaded: Checkpoint, exported: Path, axis: int, tmp_path: Path) -> None:
    model = onnx.load(exported)
    (entry,) = (item for item in model.metadata_props if item.key == KEY)
    entry.value = entry.value.replace('"axis":0', f'"axis":{axis}')
    path = tmp_path / "axis.onnx"
    onnx.save(model, path)
    assert loaded.held_inputs is not None
    verdict = check_parity(path, loaded.model, loaded.held_inputs)
    assert "channels on axis" in verdict.first_failure


def test_the_networks_modes_are_left_as_they_were(loaded: Checkpoint, exported: Path) -> None:
    loaded.model.train()
    loaded.model.bn1.eval()
    assert loaded.held_inputs is not None
    assert check_parity(exported, loaded.model, loaded.held_inputs).ok
    assert loaded.model.training
    assert not loaded.model.bn1.training
    loaded.model.eval()


def test_inputs_that_do_not_fit_are_refused(loaded: Checkpoint, exported: Path) -> None:
    with pytest.raises(
        ExportError, match=r"input 'input' takes float32 \['N', 1, 8, 8\], found float32 \[2, 1, 9, 9\]"
    ):
        check_parity(exported, loaded.model, torch.zeros(2, 1, 9, 9))
    with pytest.raises(ExportError, match=r"takes float32 \['N', 1, 8, 8\], found int64 \[3, 1, 8, 8\]"):
        check_parity(exported, loaded.model, torch.zeros(3, 1, 8, 8, dtype=torch.int64))
    assert check_parity(exported, loaded.model, torch.zeros(3, 1, 8, 8, requires_grad=True)).ok
    with pytest.raises(ExportError, match="takes 1 inputs, found 2"):
        check_parity(exported, loaded.model, (torch.zeros(1, 1, 8, 8), torch.zeros(1)))
    with pytest.raises(ExportError, match="at least one input"):
        check_parity(exported, loaded.model, torch.zeros(0, 1, 8, 8))


def test_foreign_and_tampered_files_are_refused(loaded: Checkpoint, exported: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    x = torch.zeros(1, 1, 8, 8)
    for content in (b"", b"no protobuf at all", exported.read_bytes()[:1000]):
        path.write_bytes(content)
        with pytest.raises(ExportError, match="is not an ONNX file"):
            check_parity(path, loaded.model, x)
    with pytest.raises(ExportError, match="no such file"):
        check_parity(tmp_path / "b.onnx", loaded.model, x)

    model = onnx.load(exported)
    (entry,) = (item for item in model.metadata_props if item.key == KEY)
    original = entry.value
    for value, message in [
        (
            original.replace("session.disable_quant_qdq", "session.custom_library"),
            "session.custom_library, which a file",
        ),
        (original.replace('"format_version":2', '"format_version":9'), "metadata version 9 is newer than 2"),
        (original[:-5], "metadata is damaged"),
        ("[]", "metadata is damaged"),
        (original.replace('"axis":0', '"axis":"x"'), "metadata is damaged"),
    ]:
        entry.value = value
        onnx.save(model, path)
        with pytest.raises(ExportError, match=message):
            check_parity(path, loaded.model, x)
    del model.metadata_props[:]
    onnx.save(model, path)
    with pytest.raises(ExportError, match="has no 'codeq' metadata"):
        check_parity(path, loaded.model, x)


def test_output_rule_by_hand() -> None:
    expected = np.array([[1.0, 2.0, -4.0]], np.float32)

    def judge(found: list[list[float]]) -> tuple[bool, int]:
        check = compare_output("y", "basic", 1, expected, np.array(found, np.float32))
        assert check.tolerance == pytest.approx(4 * RELATIVE_TOLERANCE)
        return check.ok, check.argmax_differences

    assert judge([[1.0, 2.0, -4.0]]) == (True, 0)
    assert judge([[1.0, 2.00003, -4.0]]) == (True, 0)
    assert judge([[1.0, 2.00005, -4.0]]) == (False, 0)
    assert judge([[2.5, 2.0, -4.0]]) == (False, 1)
    # A tie that the runtime breaks the other way is inside the tolerance: either class is right.
    tied = np.array([[1.0, 1.000001]], np.float32)
    check = compare_output("y", "basic", 1, tied, tied[:, ::-1].copy())
    assert (check.ok, check.argmax_differences) == (True, 0)
    whole = np.array([1, 2], np.int64)
    assert compare_output("y", "basic", 1, whole, whole).ok
    assert compare_output("y", "basic", 1, whole, whole + 1).reason == "2 elements differ"
