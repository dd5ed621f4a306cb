"""A file is proved on another device: what is sent there, what the script does without us, how results are judged."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import codeq
from export import export_onnx
from export.errors import ExportError
from export.onnx.backend import ONNX
from export.onnx.runner import OnnxruntimeRunner
from export.parity.held import hold_inputs
from export.parity.verdict import Verdict
from export.reference import processors
from runtime_tests.devices import on_device
from runtime_tests.devices.judge import judge
from runtime_tests.devices.kit import SCRIPT, open_probe, probe_bytes, write_kit
from runtime_tests.devices.names import KINDS as PROCESSORS
from runtime_tests.devices.recorded_runner import RecordedRunner
from runtime_tests.devices.results import DeviceResults, digest_of, read_results

SCRIPT_ENVIRONMENT = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}

KINDS = ("int8.onnx", "float32.onnx", "int8.tflite")


@pytest.fixture(scope="module")
def folder(checkpoint_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of every kind, and their kits."""
    folder = tmp_path_factory.mktemp("device")
    loaded = codeq.load(checkpoint_path)
    x = loaded.held_inputs
    assert x is not None
    options: dict[str, Any] = {"check_inputs": (x[:3],), "calibration": x}
    export_onnx(loaded.model, (x[:2],), folder / "int8.onnx", activations="int8", **options)
    export_onnx(loaded.model, (x[:2],), folder / "float32.onnx", storage="packed", check_inputs=(x[:3],))
    return folder


def send(folder: Path, checkpoint: Path, name: str, run_command: Any, count: int = 5) -> Path:
    """Write a kit, and run it as a device does: in a process that cannot import this project."""
    kit = folder / f"kit-{name.replace('.', '-')}"
    kit.mkdir(exist_ok=True)
    probe = kit / f"probe{Path(name).suffix}"
    words: Any = (checkpoint, folder / name, "-o", probe, "--count", count, "--json", "-", "--force")
    done = run_command("runtime_tests.probe_file", *words, cwd=folder)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["count"] == count
    assert report["format_version"] == 1
    words = [sys.executable, "-I", *report["device_command"].split()[1:], str(folder / name)]
    done = subprocess.run(words, cwd=kit, env=SCRIPT_ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("batches in") == 2
    return kit / "probe-results.npz"


@pytest.mark.slow("files are exported, and run in a process of their own")
@pytest.mark.parametrize("name", KINDS)
def test_a_file_is_proved_by_what_the_device_computed(
    name: str, folder: Path, checkpoint_path: Path, run_command: Any
) -> None:
    if name.endswith(".tflite"):
        export_tflite = pytest.importorskip("export.tflite", reason="LiteRT is an extra").export_tflite
        loaded = codeq.load(checkpoint_path)
        x = loaded.held_inputs
        export_tflite(
            loaded.model, (x[:2],), folder / name, check_inputs=(x[:3],), activations="int8", calibration=x, force=True
        )
    results = send(folder, checkpoint_path, name, run_command)
    words = (checkpoint_path, folder / name, "--device-results", results)
    done = run_command("runtime_tests.parity", *words, "--json", "-")
    assert done.returncode == 0, done.stdout + done.stderr
    verdict = json.loads(done.stdout)
    assert " on x86" in verdict["runtime"] or " on arm" in verdict["runtime"]
    assert verdict["inputs"] == 5
    assert bool(verdict["codes"]) == name.startswith("int8")
    assert all(check["differing"] == 0 for check in verdict["codes"] if check["exact"])
    # One code of one layer, one step off, or an output: it is red.
    with np.load(results) as stored:
        arrays = {key: stored[key].copy() for key in stored.files}
    on_codes = bool(verdict["codes"])
    off = ["0.00001.2"] if on_codes else ["0.00001.0", "1.00001.0"]  # without codes the probe is the file itself
    for key in off:
        arrays[key].reshape(-1)[0] += 1
    np.savez(folder / "off.npz", **arrays)
    words = (checkpoint_path, folder / name, "--device-results", folder / "off.npz")
    done = run_command("runtime_tests.parity", *words)
    assert done.returncode == 1, done.stdout + done.stderr
    assert ("1 of " if on_codes else "max_abs_error 1 above") in done.stdout
    for key in off:
        arrays[key].reshape(-1)[0] -= 1
    arrays["1.00001.0"].reshape(-1)[0] += 1  # the file itself computes something else than its probe
    np.savez(folder / "off.npz", **arrays)
    done = run_command("runtime_tests.parity", *words)
    assert done.returncode == 2, done.stdout + done.stderr
    looked = "the device computes something else where its tensors are looked at"
    assert (looked if on_codes else "two things of equal inputs") in done.stderr


@pytest.mark.slow("files are exported, and run in a process of their own")
def test_results_that_do_not_belong_are_one_line(folder: Path, checkpoint_path: Path, run_command: Any) -> None:
    results = send(folder, checkpoint_path, "int8.onnx", run_command)
    (folder / "junk.npz").write_bytes(b"junk")
    np.savez(folder / "other.npz", x=np.zeros(3))
    with np.load(results) as stored:
        arrays = {key: stored[key] for key in stored.files}
    about = json.loads(str(arrays["about"]))
    newer = arrays | {"about": np.array(json.dumps(about | {"format": 9}))}
    np.savez(folder / "newer.npz", **newer)
    np.savez(folder / "riscv.npz", **(arrays | {"about": np.array(json.dumps(about | {"cpu": "riscv64"}))}))
    about["batches"] = {name: name.rjust(64, "0") for name in about["batches"]}
    np.savez(folder / "inputs.npz", **(arrays | {"about": np.array(json.dumps(about))}))
    cases = {
        ("int8.onnx", "none.npz"): "no such file, expected the results of on_device.py",
        ("int8.onnx", "junk.npz"): "is no .npz, expected the results of on_device.py",
        (
            "int8.onnx",
            "kit-int8-onnx/probe.npz",
        ): "holds the inputs of a device; the results are what its script wrote there",
        ("int8.onnx", "riscv.npz"): "comes from a processor 'riscv64', whose rule is not known; if it computes as",
        ("int8.onnx", "other.npz"): "is not what on_device.py writes; run `codeq probe-file`",
        ("int8.onnx", "newer.npz"): "is of format 9, expected 1; take on_device.py of this release",
        ("int8.onnx", "inputs.npz"): "is of other inputs; give the --data and --count of `codeq probe-file`",
        ("float32.onnx", str(results)): "holds nothing of the probe of",
    }
    for (file, name), message in cases.items():
        path = folder / name
        done = run_command("runtime_tests.parity", checkpoint_path, folder / file, "--device-results", path)
        assert done.returncode == 2, done.stdout + done.stderr
        assert message in done.stderr, done.stderr
        assert done.stderr.count("\n") == 1
        assert not done.stdout


@pytest.mark.slow("files are exported")
def test_what_no_probe_can_be_is_one_line(folder: Path, checkpoint_path: Path, run_command: Any) -> None:
    for words, message in {
        ("int8.onnx", "-o", "int8.onnx"): "int8.onnx: is the file itself; name another output with -o",
        ("int8.onnx", "-o", "probe.tflite"): "is to be an ONNX file, expected a name that ends in .onnx",
        ("none.onnx", "-o", "probe.onnx"): "none.onnx",
    }.items():
        done = run_command("runtime_tests.probe_file", checkpoint_path, *words, "--count", 16, cwd=folder)
        assert done.returncode == 2, done.stdout
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
        assert not (folder / "probe.onnx").exists()


def test_equal_inputs_with_two_results_are_refused(folder: Path, checkpoint_path: Path, run_command: Any) -> None:
    results = send(folder, checkpoint_path, "int8.onnx", run_command)
    with np.load(results) as stored:
        arrays = {key: stored[key].copy() for key in stored.files}
    arrays["0.00005.1"].reshape(-1)[0] ^= 1  # five inputs are filled up to six with the first
    np.savez(folder / "two.npz", **arrays)
    with pytest.raises(ExportError, match=r"two things of equal inputs \(output 1, batch 0000[05]\)"):
        read_results(folder / "two.npz")


@pytest.mark.slow("files are exported")
def test_what_was_recorded_takes_the_place_of_a_runtime(folder: Path, checkpoint_path: Path) -> None:
    path = folder / "int8.onnx"
    model = codeq.load(checkpoint_path).model
    x = torch.zeros(1, *model.input_shape)  # type: ignore[arg-type,misc]
    stored = ONNX.read(path)
    probe = open_probe(ONNX, stored)
    assert probe_bytes(probe) != path.read_bytes()
    here = OnnxruntimeRunner(path)
    here.open()
    recorded = RecordedRunner(here, {digest_of([x.numpy()]): [np.full((1, 10), 7.0)]}, "results.npz")
    assert recorded.finish(recorded.run(recorded.prepare([x.numpy()])))[0].tolist() == [[7.0] * 10]
    with pytest.raises(ExportError, match=r"^results\.npz: is of other inputs"):
        recorded.run(recorded.prepare([x.numpy() + 1]))
    nothing = DeviceResults(Path("results.npz"), "x86", "Linux", 1, {}, {})
    verdict = Verdict("onnxruntime", "1", 1, (), ())
    with pytest.raises(ExportError, match=r"^results\.npz: holds nothing of the probe of .*int8\.onnx; send what"):
        judge(ONNX, stored, model, hold_inputs(model, x), None, nothing, verdict)


@pytest.mark.slow("files are exported, and run in a process of their own")
def test_a_device_says_itself_whether_its_codes_are_equal(
    folder: Path, checkpoint_path: Path, run_command: Any
) -> None:
    kit = folder / "expected"
    kit.mkdir()
    words: Any = (checkpoint_path, folder / "int8.onnx", "-o", kit / "probe.onnx", "--count", 3, "--expect", "wasm")
    done = run_command("runtime_tests.probe_file", *words)
    assert done.returncode == 0, done.stderr
    assert "with the codes that wasm is to compute" in " ".join(done.stdout.split())

    def run() -> subprocess.CompletedProcess[str]:
        script = [sys.executable, "-I", "probe.py", "probe.npz", "probe-results.npz", "probe.onnx"]
        return subprocess.run(script, cwd=kit, env=SCRIPT_ENVIRONMENT, capture_output=True, text=True, check=False)

    done = run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^0 of \d{4,} codes differ from those expected of wasm$", done.stdout, re.MULTILINE)
    with np.load(kit / "probe.npz") as stored:
        arrays = {key: stored[key].copy() for key in stored.files}
    arrays["expected.00001.0"] += 1.0  # an output is no code
    arrays["expected.00001.2"].reshape(-1)[0] ^= 1
    np.savez(kit / "probe.npz", **arrays)
    done = run()
    assert done.returncode == 1
    assert "\n1 of " in done.stdout
    words = (checkpoint_path, folder / "float32.onnx", "--expect", "arm", "-o", "float.onnx")
    done = run_command("runtime_tests.probe_file", *words, cwd=kit)
    assert done.returncode == 2
    assert "float32.onnx: has no codes to expect, since its activations are float" in done.stderr


@pytest.mark.slow("files are exported")
def test_codes_that_another_processor_rounds_otherwise_cannot_be_expected(
    folder: Path, checkpoint_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add_a_step_more(node: Any, a: Any, b: Any) -> Any:
        pending = processors.add_plainly(node, a, b)
        return replace(pending, steps=lambda sy, zy: pending.steps(sy, zy) + 1)

    monkeypatch.setattr(processors, "ADDITIONS", {**processors.ADDITIONS, "wasm": add_a_step_more})
    loaded = codeq.load(checkpoint_path)
    assert loaded.held_inputs is not None
    words: Any = (ONNX, ONNX.read(folder / "int8.onnx"), loaded.model, loaded.held_inputs[:3], tmp_path / "probe.onnx")
    with pytest.raises(ExportError, match=r"int8\.onnx: wasm rounds \d+ codes of these inputs otherwise"):
        write_kit(*words, checkpoint=checkpoint_path, expect="wasm")
    assert not list(tmp_path.iterdir())


def test_the_script_is_short_and_needs_nothing_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = SCRIPT.read_text().splitlines()
    assert len(lines) <= 145
    imported = {line.split()[1].partition(".")[0] for line in lines if line.strip().startswith(("import ", "from "))}
    runtimes = {"onnxruntime", "ai_edge_litert", "tflite_runtime", "tflite_micro"}
    assert imported == {"hashlib", "importlib", "json", "os", "platform", "sys", "numpy", *runtimes}
    assert set(PROCESSORS) == set(processors.ADDITIONS)
    for machine, cpu in {"aarch64": "arm", "arm64": "arm", "riscv64": "riscv64"}.items():
        monkeypatch.setattr(on_device.platform, "machine", lambda machine=machine: machine)
        assert on_device.processor() == cpu


def test_results_say_what_computed_them(tmp_path: Path) -> None:
    about = {"format": 1, "cpu": "arm", "platform": "Linux\x1b[31m", "python": "3.11", "numpy": "2.0"}
    about |= {"inputs": {"count": 3, "data": None}, "batches": {"00000": "a" * 64}}
    about |= {"files": [{"name": "p", "sha256": "b" * 64, "runtime": "onnxruntime", "version": "1.31.1"}]}
    np.savez(tmp_path / "r.npz", about=np.array(json.dumps(about)), **{"0.00000.0": np.arange(3)})
    found = read_results(tmp_path / "r.npz")
    assert (found.cpu, found.count, found.runtimes) == ("arm", 3, {"b" * 64: ("onnxruntime", "1.31.1")})
    assert "\x1b" not in found.platform
    assert [array.tolist() for array in found.of("b" * 64)["a" * 64]] == [[0, 1, 2]]
    assert not found.of("c" * 64)
