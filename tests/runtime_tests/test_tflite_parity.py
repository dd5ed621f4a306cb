"""The parity command on .tflite files, and that it finds what was done to one after its export."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import codeq

pytest.importorskip("ai_edge_litert", reason="LiteRT is an extra: pip install '.[tflite]'")

from export import check_parity
from export.tflite import export_tflite
from export.tflite.file.flatbuffer import align_buffers, pack_model, read
from export.tflite.stored_file import check_grids, read_file
from runtime_tests import parity

Change = Callable[[Any, dict[str, Any]], None]


@pytest.fixture(scope="module", params=["float32", "int8"])
def files(request: pytest.FixtureRequest, checkpoint_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return checkpoint_path, export(checkpoint_path, tmp_path_factory.mktemp("parity"), request.param)


@pytest.fixture(scope="module")
def int8_file(checkpoint_path: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return checkpoint_path, export(checkpoint_path, tmp_path_factory.mktemp("parity"), "int8")


def export(checkpoint: Path, folder: Path, activations: Any, **options: Any) -> Path:
    loaded = codeq.load(checkpoint)
    x = loaded.held_inputs
    assert x is not None
    path = folder / "net.tflite"
    options = {"checkpoint_sha256": loaded.sha256, "preprocessing": loaded.preprocessing} | options
    export_tflite(
        loaded.model, (x[:2],), path, check_inputs=(x[:3],), activations=activations, calibration=x, **options
    )
    return path


def changed(path: Path, folder: Path, change: Change) -> Path:
    """A copy of a file with something else in it."""
    data = path.read_bytes()
    model = read(data)
    tensors = {bytes(tensor.name).decode(): tensor for tensor in model.subgraphs[0].tensors}
    change(model, tensors)
    target = folder / "changed.tflite"
    model.buffers = align_buffers(model)
    target.write_bytes(pack_model(model, len(data)))
    return target


def verdict_of(checkpoint: Path, path: Path, count: int = 3) -> Any:
    loaded = codeq.load(checkpoint)
    inputs, _ = loaded.inputs_to_check(count)
    return check_parity(path, loaded.model, inputs)


def test_the_command_holds_a_file_against_its_checkpoint(run_command: Any, files: tuple[Path, Path]) -> None:
    done = run_command("runtime_tests.parity", *files, "--count", 6)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "weights   10 of 10 equal PyTorch's bit for bit: ok" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("parity    ")
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_the_command_compares_accuracy_on_a_test_set(run_command: Any, int8_file: tuple[Path, Path]) -> None:
    done = run_command("runtime_tests.parity", *int8_file, "--data", "digits", "--count", 9, "--json", "-")
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout)
    assert values["inputs"] == 9
    assert values["accuracy"]["litert"] == values["accuracy"]["integer_reference"]
    assert set(values["accuracy"]) == {"pytorch", "litert", "integer_reference"}


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_what_is_rebuilt_is_what_was_exported(checkpoint_path: Path, tmp_path: Path, layout: str) -> None:
    path = export(checkpoint_path, tmp_path, "int8", layout=layout)
    verdict = verdict_of(checkpoint_path, path, 6)
    assert verdict.ok, verdict
    assert {layer.kernel for layer in verdict.codes} == {"float", "CONV_2D", "ADD", "MEAN"}
    assert check_grids(read_file(path)) == ()


def flip_a_code(model: Any, tensors: dict[str, Any]) -> None:
    buffer = model.buffers[tensors["block1.conv1.weight_quantized"].buffer]
    buffer.data = buffer.data.copy()
    buffer.data[5] ^= 1


def scale_a_weight(model: Any, tensors: dict[str, Any]) -> None:
    tensors["fc.weight_quantized"].quantization.scale = tensors["fc.weight_quantized"].quantization.scale * 1.0000002


def scale_an_activation(model: Any, tensors: dict[str, Any]) -> None:
    grid = tensors["block2.conv1_quantized"].quantization
    grid.scale = np.nextafter(grid.scale, np.float32(np.inf))


def shift_an_activation(model: Any, tensors: dict[str, Any]) -> None:
    grid = tensors["block2.conv1_quantized"].quantization
    grid.zeroPoint = grid.zeroPoint + 1


def move_a_bias(model: Any, tensors: dict[str, Any]) -> None:
    name = next(name for name in tensors if name.startswith("block1.conv1") and "bias" in name)
    buffer = model.buffers[tensors[name].buffer]
    values = np.frombuffer(bytes(buffer.data), np.int32) + 1
    buffer.data = np.frombuffer(values.tobytes(), np.uint8)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (flip_a_code, "block1.conv1.weight: its codes are not those that were exported"),
        (scale_a_weight, "fc.weight: "),
        (scale_an_activation, "block2.conv1"),
        (shift_an_activation, "block2.conv1"),
        (move_a_bias, "block1.conv1.bias_quantized: "),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_change_is_found(
    int8_file: tuple[Path, Path], tmp_path: Path, change: Change, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, file = int8_file
    assert parity.main([str(checkpoint), str(changed(file, tmp_path, change)), "--count", "3"]) == 1
    assert f"first failure: {reason}" in capsys.readouterr().out


def test_another_checkpoint_is_found(
    files: tuple[Path, Path], make_checkpoint: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    other = make_checkpoint(theta=0.5)
    assert parity.main([str(other), str(files[1]), "--count", "3"]) == 1
    captured = capsys.readouterr()
    assert "first failure: " in captured.out
    assert "says it was made from another checkpoint" in captured.err


def test_bad_input_to_the_command(
    run_command: Any, int8_file: tuple[Path, Path], make_checkpoint: Any, tmp_path: Path
) -> None:
    checkpoint, file = int8_file
    data = file.read_bytes()
    cases = {
        "text.tflite": (b"hello", "is not a .tflite file"),
        "half.tflite": (data[: len(data) // 2], "is damaged"),
        "noise.tflite": (data[:8] + b"\xff" * 64 + data[72:], "is damaged"),
        "foreign.tflite": (data.replace(b"\x05\x00\x00\x00codeq", b"\x05\x00\x00\x00other"), "has no 'codeq' metadata"),
        "layout.tflite": (data.replace(b'"channels_last_io"', b'"channels_list_io"'), "metadata is damaged"),
    }
    arguments = []
    for name, (content, message) in cases.items():
        (tmp_path / name).write_bytes(content)
        arguments.append(([checkpoint, tmp_path / name], message))
    arguments.append(([checkpoint, tmp_path / "no.tflite"], "no such file"))
    arguments.append(([make_checkpoint(input_size=12), file], "is it the file of another network?"))
    for words, message in arguments:
        done = run_command("runtime_tests.parity", *words)
        assert done.returncode == 2, (words, done)
        assert message in done.stderr, (words, done.stderr)
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert done.stdout == ""


@pytest.mark.parametrize(
    ("activations", "options"),
    [
        ("float32", {"hybrid": True}),
        ("float32", {"sparse": "off"}),
        ("int8", {"io": "int8", "layout": "nhwc"}),
    ],
    ids=["hybrid", "dense", "codes in and out"],
)
def test_every_mode_is_read_back(
    make_checkpoint: Any, tmp_path: Path, activations: str, options: dict[str, Any], run_command: Any
) -> None:
    checkpoint = make_checkpoint(theta=0.6)
    path = export(checkpoint, tmp_path, activations, **options)
    done = run_command("runtime_tests.parity", checkpoint, path, "--count", 6, "--data", "digits")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert ("approximate (hybrid)" in done.stdout) == ("hybrid" in options)


def test_a_file_is_approximate_by_its_operators(checkpoint_path: Path, tmp_path: Path) -> None:
    """Nothing that it says of itself loosens the contract."""
    for name, hybrid in (("plain", False), ("hybrid", True)):
        (tmp_path / name).mkdir()
        file = read_file(export(checkpoint_path, tmp_path / name, "float32", hybrid=hybrid))
        assert file.approximate == hybrid
        assert "hybrid" not in json.dumps(file.metadata.layout)


def test_a_hybrid_file_says_how_far_off_it_is(checkpoint_path: Path, tmp_path: Path) -> None:
    """Its outputs are approximate, its weights are held as ever, a wrong one fails."""
    path = export(checkpoint_path, tmp_path, "float32", hybrid=True)
    verdict = verdict_of(checkpoint_path, path)
    assert verdict.ok
    assert verdict.approximate
    assert "outputs off by" in verdict.summary
    assert f"{verdict.max_abs_error:.1e}" in verdict.summary
    assert {check.setting for check in verdict.outputs} == {"xnnpack", "builtin"}
    broken = verdict_of(checkpoint_path, changed(path, tmp_path, flip_a_code))
    assert broken.first_failure.startswith("block1.conv1.weight: its codes are not those that were exported")
