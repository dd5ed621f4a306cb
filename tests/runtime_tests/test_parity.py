"""The parity contract over bit widths and grids, and its command. test_zoo.py has all networks, modes and storages."""

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from PIL import Image

import codeq
import models
from export import export_onnx
from export.backend import get_backend
from export.onnx.sessions import LEVELS
from export.parity.outputs import BATCH_SIZES
from runtime_tests.agreement.parity import check_file
from runtime_tests.agreement.runtimes import compare_runtimes
from runtime_tests.parity import is_ci
from tests.cases import CASES
from tests.export.test_cases import build


@pytest.mark.slow("it exports and compares")
@pytest.mark.parametrize(
    ("bits", "grid", "storage"),
    [
        (2, "integer", "auto"),
        pytest.param(4, "integer", "dense", marks=pytest.mark.full),
        pytest.param(8, "integer", "auto", marks=pytest.mark.full),
        (4, "paper", "auto"),
    ],
)
@pytest.mark.parametrize("name", ["resnet8", pytest.param("resnet20", marks=pytest.mark.full)])
def test_the_contract_holds(
    make_checkpoint: Callable[..., Path], name: str, bits: int, grid: str, storage: Any, tmp_path: Path
) -> None:
    loaded = codeq.load(make_checkpoint(name, bits=bits, grid=grid))
    assert loaded.held_inputs is not None
    report = export_onnx(
        loaded.model,
        (loaded.held_inputs[:2],),
        tmp_path / "net.onnx",
        storage=storage,
        check_inputs=(loaded.held_inputs,),
    )
    assert report.verdict.ok, report.verdict
    decides = {(check.setting, check.batch_size): check.decides for check in report.verdict.outputs}
    assert {run for run, decided in decides.items() if decided} == {*product(LEVELS, BATCH_SIZES)}
    assert {setting for (setting, _), decided in decides.items() if not decided} == {"enable_all, default options"}
    assert report.folded_batch_norms == {"resnet8": 7, "resnet20": 19}[name]
    assert report.skipped_folds == {}


@pytest.mark.slow("it exports and compares")
@pytest.mark.parametrize(
    ("name", "size", "bits"),
    [
        ("resnet8", 8, 2),
        pytest.param("resnet8", 8, 8, marks=pytest.mark.full),
        *(
            pytest.param(name, size, bits, marks=pytest.mark.full)
            for name, size in (("resnet20", 8), ("resnet18", 32))
            for bits in (2, 8)
        ),
    ],
)
def test_the_integer_contract_holds(
    make_checkpoint: Callable[..., Path], name: str, size: int, bits: int, tmp_path: Path
) -> None:
    loaded = codeq.load(make_checkpoint(name, bits=bits, input_size=size))
    x = loaded.held_inputs
    assert x is not None
    report = export_onnx(
        loaded.model, (x[:2],), tmp_path / "net.onnx", check_inputs=(x[:6],), activations="int8", calibration=x
    )
    verdict = report.verdict
    assert verdict.ok, verdict
    assert {kernel.kernel for kernel in report.kernels} == {
        "QLinearConv",
        "QLinearAdd",
        "QLinearGlobalAveragePool",
        "QGemm",
    }
    assert verdict.elements(exact=True) > 0 == verdict.differing(exact=True)
    assert {(check.setting, check.batch_size) for check in verdict.outputs} == {*product(LEVELS, BATCH_SIZES)}
    # With integer kernels throughout, the outputs themselves are the reference's, bit for bit.
    exact = {level for level in LEVELS if all(check.exact for check in verdict.codes if check.setting == level)}
    assert exact == {"enable_all"}
    assert {check.setting for check in verdict.outputs if check.decides} == exact
    assert all(check.differing == 0 for check in verdict.outputs if check.setting in exact)


@pytest.fixture(scope="module")
def files(checkpoint_path: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    loaded = codeq.load(checkpoint_path)
    path = tmp_path_factory.mktemp("parity") / "net.onnx"
    assert loaded.held_inputs is not None
    export_onnx(
        loaded.model,
        (loaded.held_inputs[:2],),
        path,
        checkpoint_sha256=loaded.sha256,
        preprocessing=loaded.preprocessing,
    )
    return checkpoint_path, path


def test_the_command_holds_a_file_against_its_checkpoint(run_command: Any, files: tuple[Path, Path]) -> None:
    done = run_command("runtime_tests.parity", *files)
    assert done.returncode == 0, done.stderr
    assert "weights   10 of 10 equal PyTorch's bit for bit: ok" in done.stdout
    assert "would hold" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("parity    16 inputs, onnxruntime ")
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_the_command_compares_accuracy_on_a_test_set(run_command: Any, files: tuple[Path, Path]) -> None:
    done = run_command("runtime_tests.parity", *files, "--data", "digits", "--count", 20, "--json", "-")
    values = json.loads(done.stdout)
    assert done.returncode == 0
    assert values["inputs"] == 20
    assert values["accuracy"]["pytorch"] == values["accuracy"]["onnxruntime"]


@pytest.mark.slow("it exports and compares")
def test_the_command_takes_folders_of_images_at_the_networks_size(run_command: Any, tmp_path: Path) -> None:
    for split, count in (("train", 1), ("val", 53)):
        for label in range(2):
            folder = tmp_path / "images" / split / f"class{label}"
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = np.random.default_rng(number).integers(0, 256, (20, 30, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    arguments = {"in_channels": 3, "num_classes": 2, "input_size": 16}
    model = models.create("resnet8", **arguments)
    codeq.attach(model, 4)
    codeq.freeze(model)
    preprocessing = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    checkpoint, file, source = tmp_path / "ckpt.pt", tmp_path / "net.onnx", f"images:{tmp_path / 'images'}"
    codeq.save(
        checkpoint, model, input_shape=(3, 16, 16), name="resnet8", arguments=arguments, preprocessing=preprocessing
    )
    export_onnx(model.eval(), (torch.randn(2, 3, 16, 16),), file, preprocessing=preprocessing)
    done = run_command("runtime_tests.parity", checkpoint, file, "--data", source, "--count", 500, "--json", "-")
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout)
    assert values["inputs"] == 106
    assert "holds 106 inputs, not 500" in done.stderr
    # The same pictures in both classes, in more than one batch: whatever a network makes of them, half of it is right.
    assert values["accuracy"] == {"pytorch": 0.5, "onnxruntime": 0.5}


def test_the_command_goes_red_when_file_and_network_part_ways(
    run_command: Any, files: tuple[Path, Path], tmp_path: Path
) -> None:
    model = onnx.load(files[1])
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "fc.bias")
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + 1e-3, "fc.bias"))
    path = tmp_path / "changed.onnx"
    onnx.save(model, path)
    done = run_command("runtime_tests.parity", files[0], path, "--json", tmp_path / "verdict.json")
    assert done.returncode == 1
    assert "first failure: output at disable_all, batch 1: max_abs_error 0.001" in done.stdout
    assert json.loads((tmp_path / "verdict.json").read_text())["ok"] is False


@pytest.mark.slow("it runs the command")
def test_the_command_lists_packaging_or_is_strict(
    run_command: Any, files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = onnx.load(files[1])
    model.producer_name = "another"
    path = tmp_path / "other.onnx"
    onnx.save(model, path)
    line = "producer_name: found 'another', expected 'codeq'"
    done = run_command("runtime_tests.parity", files[0], path)
    assert done.returncode == 0, done.stderr
    assert "file      one difference from what is written for its network: listed\n" in done.stdout
    assert line in done.stdout
    done = run_command("runtime_tests.parity", files[0], path, "--strict", "--json", "-")
    assert done.returncode == 1
    values = json.loads(done.stdout)
    assert (values["ok"], values["first_failure"]) == (False, line)
    assert values["file"]["differences"] == [{"text": line, "fails": "strict", "ok": False}]
    assert run_command("runtime_tests.parity", *files, "--strict").returncode == 0
    for value, strict in {"": False, "0": False, "False": False, "true": True, "1": True, "github": True}.items():
        monkeypatch.setenv("CI", value)
        assert is_ci() == strict


@pytest.mark.slow("it runs the command")
def test_the_command_holds_what_a_file_says_of_its_checkpoint(
    run_command: Any, files: tuple[Path, Path], tmp_path: Path
) -> None:
    loaded = codeq.load(files[0])
    path = tmp_path / "net.onnx"
    assert loaded.held_inputs is not None
    export_onnx(loaded.model, (loaded.held_inputs[:2],), path, preprocessing={"mean": [0.1]}, checkpoint_sha256="ab")
    done = run_command("runtime_tests.parity", files[0], path)
    assert done.returncode == 1
    assert "first failure: metadata preprocessing: found {'mean': [0.1]}, expected none" in done.stdout
    assert "says it was made from another checkpoint" in done.stderr


@pytest.mark.slow("it exports and compares")
def test_the_command_holds_an_integer_file(run_command: Any, checkpoint_path: Path, tmp_path: Path) -> None:
    loaded = codeq.load(checkpoint_path)
    x = loaded.held_inputs
    assert x is not None
    export_onnx(loaded.model, (x[:2],), tmp_path / "net.onnx", activations="int8", calibration=x)
    done = run_command("runtime_tests.parity", checkpoint_path, tmp_path / "net.onnx", "--data", "digits", "--count", 9)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[-1].startswith("accuracy  PyTorch ")
    assert "the integer reference" in lines[-1]
    assert "codes differ: 0 of " in lines[-3]


def test_bad_input_to_the_command(
    run_command: Any, files: tuple[Path, Path], make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    checkpoint, file = files
    text = tmp_path / "text.onnx"
    text.write_text("hello")
    foreign = tmp_path / "foreign.onnx"
    graph = onnx.helper.make_graph([], "g", [], [])
    onnx.save(onnx.helper.make_model(graph), foreign)
    larger = make_checkpoint(input_size=12)
    cases: list[tuple[list[Any], str]] = [
        ([checkpoint, tmp_path / "no.onnx"], "no such file"),
        ([tmp_path / "no.pt", file], "no such file"),
        ([checkpoint, text], "is not an ONNX file"),
        ([checkpoint, foreign], "has no 'codeq' metadata"),
        ([file, checkpoint], "is not an ONNX file"),
        ([larger, file], "found float32 [16, 1, 12, 12]; is it the file of another network?"),
        ([larger, file, "--data", "digits"], "has inputs of shape (1, 8, 8)"),
        ([checkpoint, file, "--data", "nothing"], "unknown data set 'nothing'"),
        ([checkpoint, file, "--count", "0"], "expected an integer of at least 1, found '0'"),
    ]
    for arguments, message in cases:
        done = run_command("runtime_tests.parity", *arguments)
        assert done.returncode == 2, (arguments, done)
        assert message in done.stderr, (arguments, done.stderr)
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert done.stdout == ""


def test_what_stays_float_since_8_bits_cannot_hold_it(tmp_path: Path) -> None:
    """Its program is made again without a grid for it, though the network's own plan has one."""
    model, (x,) = build(CASES["extreme: a norm of nothing"])
    ckpt, file = tmp_path / "net.pt", tmp_path / "net.onnx"
    codeq.save(ckpt, model, input_shape=tuple(x.shape[1:]), held_inputs=x)
    export_onnx(model, (x,), file, activations="int8")
    assert get_backend("onnx").read(file).metadata.activations_too_wide

    def factory() -> torch.nn.Module:
        return CASES["extreme: a norm of nothing"].network()

    assert check_file(ckpt, file, factory, None, 4).verdict.ok
    opened = compare_runtimes(codeq.load(ckpt, factory), [file], None, None, ["onnxruntime"])
    assert opened.first_failure == ""
