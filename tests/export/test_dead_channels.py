"""Files lack the channels that no output depends on, and compute, code for code, what they did with them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import codeq
from export import check_parity, export_onnx, load_session
from export.errors import ExportError
from export.metadata import KEY
from export.onnx.backend import ONNX
from export.report import Report
from export.stored_network import stored_network
from tests.codeq.channels.networks import NETWORKS, Joined, Residual, network_with_dead_channels

BACKENDS = ("onnx", "tflite")


def export(backend: str, model: nn.Module, x: torch.Tensor, path: Path, **options: Any) -> Report[Any]:
    if backend == "tflite":
        function = pytest.importorskip("export.tflite", reason="LiteRT is an extra").export_tflite
    else:
        function = export_onnx
    report: Report[Any] = function(model, (x[:2],), path.with_suffix(f".{backend}"), check_inputs=(x,), **options)
    return report


def run(report: Report[Any], x: torch.Tensor) -> np.ndarray:
    if report.path.suffix == ".onnx":
        result: np.ndarray = load_session(report.path).run(None, {"input": x.numpy()})[0]
        return result
    from export.tflite.runner import LiteRtRunner

    runner = LiteRtRunner(report.path)
    runner.open()
    (found,) = runner.finish(runner.run(runner.prepare([x.numpy()])))
    return found


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.slow("four files of a network are exported")
def test_what_is_computed_stays(kind: Callable[[], nn.Module], backend: str, tmp_path: Path) -> None:
    model, x = network_with_dead_channels(kind, 4)
    codeq.attach(model, 4)
    codeq.freeze(model)
    for activations in ("float32", "int8") if kind in (Residual, Joined) else ("int8",):
        options: dict[str, Any] = {"activations": activations}
        if activations == "int8":
            options["calibration"] = x
        dense = export(backend, model, x, tmp_path / f"dense-{activations}", keep_dead_channels=True, **options)
        assert dense.channels.removed == 0
        if activations == "int8":  # one set of grids, so that codes can be compared
            grids = ONNX.read(dense.path) if backend == "onnx" else _tflite(dense.path)
            options |= {"activation_encodings": grids.metadata.activations, "calibration": None}
        small = export(backend, model, x, tmp_path / f"small-{activations}", **options)
        assert small.channels.removed > 0
        assert small.channels.macs[1] < small.channels.macs[0]
        assert small.size_bytes < dense.size_bytes
        expected, found = run(dense, x), run(small, x)
        if activations == "int8":
            assert np.array_equal(expected, found)
        else:
            assert np.abs(expected - found).max() <= 1e-6 * max(1.0, np.abs(expected).max())
        verdict = check_parity(small.path, model, x, strict=True)
        assert verdict.ok, verdict
        assert small.to_dict()["channels"]["removed"] == small.channels.removed
        assert " removed: " in str(small)


def _tflite(path: Path) -> Any:
    from export.tflite.backend import TFLITE

    return TFLITE.read(path)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_network_without_dead_channels_gives_the_same_file(backend: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = Residual().eval(), torch.randn(4, 3, 8, 8)
    codeq.attach(model, 8)
    first = export(backend, model, x, tmp_path / "first")
    second = export(backend, model, x, tmp_path / "second", keep_dead_channels=True)
    assert first.path.read_bytes() == second.path.read_bytes()
    assert "channels" not in str(first).split()


def test_a_file_says_how_many_are_not_in_it(tmp_path: Path) -> None:
    model, x = network_with_dead_channels(Residual, 1)
    codeq.attach(model, 4)
    codeq.freeze(model)
    report = export("onnx", model, x, tmp_path / "net")
    stored = ONNX.read(report.path)
    assert stored.metadata.removed_channels == report.channels.removed > 0
    assert stored_network(stored, model, x) is not model
    off = replace(stored, metadata=replace(stored.metadata, removed_channels=1))
    assert stored_network(off, model, x) is model
    torch.manual_seed(5)
    other, _ = network_with_dead_channels(Residual, 2)
    codeq.attach(other, 4)
    codeq.freeze(other)
    verdict = check_parity(report.path, other, x)
    assert not verdict.ok
    assert verdict.first_failure
    content = json.loads(next(item.value for item in stored.model.metadata_props if item.key == KEY))
    for value in (-1, "2", True, 1.5):
        next(item for item in stored.model.metadata_props if item.key == KEY).value = json.dumps(
            content | {"removed_channels": value}
        )
        (tmp_path / "bad.onnx").write_bytes(stored.model.SerializeToString())
        with pytest.raises(ExportError, match="removed_channels is"):
            ONNX.read(tmp_path / "bad.onnx")


@pytest.mark.slow("files are exported and held against a checkpoint by commands")
def test_commands_hold_such_a_file_against_its_checkpoint(tmp_path: Path, run_command: Any) -> None:
    from models.registry import create

    torch.manual_seed(0)
    model = create("resnet8").eval()
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, nn.Conv2d) and name.endswith("conv2"):
                module.weight[:, ::3] = 0.0
    codeq.attach(model, 4)
    x = torch.randn(8, *model.input_shape)
    codeq.save(
        tmp_path / "ckpt.pt", model, input_shape=model.input_shape, name="resnet8", held_inputs=x, calibration_inputs=x
    )
    for words in (("-o", "small.onnx"), ("-o", "dense.onnx", "--keep-dead-channels")):
        done = run_command("export.onnx", "ckpt.pt", "--activations", "int8", *words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert ("removed: " in done.stdout) == (words[1] == "small.onnx")
    assert (tmp_path / "small.onnx").stat().st_size < (tmp_path / "dense.onnx").stat().st_size
    for file in ("small.onnx", "dense.onnx"):
        done = run_command("runtime_tests.parity", "ckpt.pt", file, "--strict", cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
    done = run_command("runtime_tests.runtimes", "ckpt.pt", "small.onnx", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    done = run_command("runtime_tests.probe_file", "ckpt.pt", "small.onnx", "--count", "3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_plain_network_loses_them_too(tmp_path: Path) -> None:
    model, x = network_with_dead_channels(Joined, 2)
    report = export("onnx", model, x, tmp_path / "plain")
    assert report.channels.removed > 0
    assert np.allclose(run(report, x), model(x).detach().numpy(), atol=1e-5)
