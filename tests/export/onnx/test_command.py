"""`python -m export.onnx` as a user runs it: what it prints, and one line with exit code 2 for every bad input."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import codeq
import models


@pytest.mark.slow("a process of its own: nothing of the suite may add to stderr")
def test_the_command_alone_does_the_right_thing(
    run_process: Any, run_command: Any, checkpoint_path: Path, tmp_path: Path
) -> None:
    path = tmp_path / "net.pt"
    path.write_bytes(checkpoint_path.read_bytes())
    done = run_process("export.onnx", "net.pt", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "net.onnx").exists()
    assert "parity                max_abs_error" in done.stdout
    assert "weights bit for bit: ok" in done.stdout
    assert max(len(line) for line in done.stdout.splitlines() if not line.startswith("to copy")) <= 100
    assert done.stderr == "note: the checkpoint holds 16 inputs, not 64\n"  # and no third-party noise
    assert sorted(file.name for file in tmp_path.iterdir()) == ["net.onnx", "net.pt"]

    report = run_command(
        "export.onnx",
        "net.pt",
        "-o",
        "b.onnx",
        "--check",
        7,
        "--storage",
        "dense",
        "--opset",
        17,
        "--json",
        "-",
        cwd=tmp_path,
    )
    values = json.loads(report.stdout)
    assert values["format_version"] == 1
    assert values["parity"]["inputs"] == 7
    assert values["details"]["opset"] == 17
    assert {weight["storage"] for weight in values["weights"]} == {"dense"}


@pytest.mark.slow("eight commands")
def test_a_network_of_ones_own_is_named_on_the_command_line(run_command: Any, tmp_path: Path) -> None:
    (tmp_path / "mynet.py").write_text(
        "from torch import nn\n\ndef tiny():\n    return nn.Sequential(nn.Flatten(), nn.Linear(12, 3))\n\n"
        "def sized(n):\n    return nn.Linear(n, n)\n\ndef number():\n    return 3\n\n"
        "def broken():\n    raise RuntimeError('no weights')\n"
    )
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))
    codeq.attach(model)
    codeq.save(tmp_path / "net.pt", model, input_shape=(3, 4))
    cases = [
        ([], "saved without a registry name; pass --model package.module:factory"),
        (["--model", "mynet"], "expected package.module:factory"),
        (["--model", "nothere:tiny"], "cannot be imported (No module named 'nothere')"),
        (["--model", "mynet:huge"], "cannot be imported (module 'mynet' has no attribute 'huge'"),
        (["--model", "mynet:sized"], "cannot be called without arguments"),
        (["--model", "mynet:broken"], "raised RuntimeError (no weights)"),
        (["--model", "mynet:number"], "returned a int, expected a torch.nn.Module"),
    ]
    for arguments, message in cases:
        done = run_command("export.onnx", "net.pt", *arguments, cwd=tmp_path)
        assert done.returncode == 2, done
        assert message in done.stderr, done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    # torch logs a traceback of its own where shapes do not meet; the user gets one line all the same.
    codeq.save(tmp_path / "wrong.pt", model, input_shape=(3, 5))
    done = run_command("export.onnx", "wrong.pt", "--model", "mynet:tiny", cwd=tmp_path)
    assert done.returncode == 2
    assert "torch.export cannot trace Sequential" in done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith("error: ")] == done.stderr.splitlines()
    done = run_command("export.onnx", "net.pt", "--model", "mynet:tiny", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "random normal ones were used" in done.stderr
    done = run_command("runtime_tests.parity", "net.pt", "net.onnx", "--model", "mynet:tiny", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.full
def test_state_on_the_command_line(run_command: Any, tmp_path: Path) -> None:
    (tmp_path / "stream.py").write_text(
        "import torch\nfrom torch import nn\n\n"
        "class Stream(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.conv = nn.Conv1d(3, 4, 3)\n"
        "        self.register_buffer('cache', torch.zeros(1, 3, 2))\n\n"
        "    def forward(self, x):\n        y = torch.cat([self.cache, x], 2)\n"
        "        self.cache.copy_(x[:, :, -2:])\n        return self.conv(y).mean(2)\n"
    )
    layers: dict[str, Any] = {}
    exec((tmp_path / "stream.py").read_text(), layers)
    model = layers["Stream"]()
    codeq.attach(model)
    codeq.freeze(model)
    codeq.save(tmp_path / "net.pt", model, input_shape=(3, 6))
    command = ("export.onnx", "net.pt", "--model", "stream:Stream")
    refused = run_command(*command, cwd=tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("error: the buffer 'cache' is state")
    assert refused.stderr.count("\n") == 1
    done = run_command(*command, "--state", "io", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "cache is state: feed the output cache_output back as the input cache" in " ".join(done.stdout.split())
    parity = run_command("runtime_tests.parity", "net.pt", "net.onnx", "--model", "stream:Stream", cwd=tmp_path)
    assert parity.returncode == 0, parity.stderr


class Exploit:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.target}",)


def checkpoint_files(folder: Path, good: Path) -> dict[str, tuple[Path, str]]:
    """One file per kind of bad checkpoint, with what the command must say of it."""
    content = torch.load(good, weights_only=True)
    del content["content_sha256"]  # changed below, as an older file

    def changed(name: str, **entries: Any) -> Path:
        path = folder / f"{name}.pt"
        torch.save(content | entries, path)
        return path

    def raw(name: str, data: bytes) -> Path:
        path = folder / f"{name}.pt"
        path.write_bytes(data)
        return path

    def saved(name: str, value: object) -> Path:
        path = folder / f"{name}.pt"
        torch.save(value, path)
        return path

    state = content["state_dict"]
    other_shape = state | {"fc.bias": torch.zeros(11)}
    with_nan = state | {"fc.bias": torch.full((10,), float("nan"))}
    return {
        "missing": (folder / "missing.pt", "no such file"),
        "not_a_checkpoint": (raw("text", b"print('hello')\n"), "not a checkpoint"),
        "truncated": (raw("truncated", good.read_bytes()[: good.stat().st_size // 2]), "truncated"),
        "newer": (changed("newer", format_version=99), "format version 99 is newer than 3"),
        "state_dict": (saved("state_dict", models.resnet8().state_dict()), "is a plain state_dict"),
        "malicious": (
            saved("malicious", {"format": "codeq.checkpoint", "x": Exploit(folder / "ran")}),
            "could run code",
        ),
        "malicious_bare": (raw("bare", pickle.dumps(Exploit(folder / "ran"))), "not a checkpoint"),
        "unknown_model": (changed("unknown", model={"name": "os.system", "arguments": {}}), "is not in the registry"),
        "wrong_shapes": (changed("shapes", state_dict=other_shape), "fc.bias has shape (11,), expected (10,)"),
        "nan": (changed("nan", state_dict=with_nan), "fc.bias has NaN or infinite entries"),
    }


def test_every_bad_checkpoint_gets_one_line(run_command: Any, checkpoint_path: Path, tmp_path: Path) -> None:
    target = tmp_path / "net.onnx"
    for name, (path, message) in checkpoint_files(tmp_path, checkpoint_path).items():
        done = run_command("export.onnx", path, "-o", target)
        assert done.returncode == 2, (name, done)
        assert message in done.stderr, (name, done.stderr)
        assert len(done.stderr.strip().splitlines()) == 1, (name, done.stderr)
        assert done.stdout == "", name
        assert not target.exists(), name
    assert not (tmp_path / "ran").exists()
    assert not [file for file in tmp_path.iterdir() if ".tmp" in file.name]


def test_outputs_and_options_that_cannot_be(run_command: Any, checkpoint_path: Path, tmp_path: Path) -> None:
    existing = tmp_path / "old.onnx"
    existing.write_bytes(b"old")
    for arguments, message in [
        (["-o", checkpoint_path, "--force"], "is the checkpoint itself"),
        (
            ["-o", tmp_path / "a.onnx", "--json", checkpoint_path, "--force"],
            "is a file that this command reads or writes",
        ),
        (["-o", tmp_path / "a.onnx", "--json", tmp_path / "a.onnx"], "is a file that this command reads or writes"),
        (["-o", tmp_path / "a.onnx", "--json", existing], "exists; use --force to overwrite it"),
        (["-o", existing], "exists; use --force to overwrite it"),
        (["-o", tmp_path / "nowhere" / "net.onnx"], "there is no folder"),
        (["-o", tmp_path], "is a folder, expected a file name"),
        (["-o", "/proc/net.onnx"], "cannot write /proc/net.onnx"),
        (["-o", tmp_path / "a.onnx", "--opset", "11"], "opset 11 lacks DequantizeLinear, which needs opset 13"),
        (["-o", tmp_path / "a.onnx", "--opset", "99"], "opset 99 is newer than"),
        (["-o", tmp_path / "a.onnx", "--check", "0"], "expected an integer of at least 1, found '0'"),
        (["-o", tmp_path / "a.onnx", "--storage", "zip"], "invalid choice: 'zip'"),
    ]:
        done = run_command("export.onnx", checkpoint_path, *arguments)
        assert done.returncode == 2, (arguments, done)
        assert message in done.stderr, (arguments, done.stderr)
        assert len(done.stderr.strip().splitlines()) == 1, (arguments, done.stderr)
        assert done.stdout == ""
    assert existing.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["old.onnx"]


@pytest.mark.parametrize(
    "module", ["codeq.train", "export.onnx", "runtime_tests.parity", "runtime_tests.bench", "runtime_tests.compare"]
)
def test_help_fits_the_screen_and_ends_with_an_example(run_command: Any, module: str) -> None:
    done = run_command(module, "--help")
    assert done.returncode == 0
    assert max(len(line) for line in done.stdout.splitlines() if not line.startswith("to copy")) <= 100
    assert done.stdout.splitlines()[-1].startswith(f"  python -m {module} ")


@pytest.mark.full
@pytest.mark.parametrize(
    ("stop", "old", "delays"),
    [
        pytest.param(stop, old, (0.0, 0.1), id=f"{stop.name}-{old}")
        for stop in (signal.SIGTERM, signal.SIGKILL)
        for old in (None, b"old")
    ],
)
def test_killed_at_any_moment_it_leaves_no_file_or_the_old_one(
    run_command: Any,
    stop: signal.Signals,
    old: bytes | None,
    delays: tuple[float, ...],
    checkpoint_path: Path,
    tmp_path: Path,
) -> None:
    target = tmp_path / "net.onnx"
    arguments = ["export.onnx", str(checkpoint_path), "-o", str(target), "--force"]
    command = [sys.executable, "-m", *arguments]
    assert run_command(*arguments).returncode == 0
    whole = target.read_bytes()  # two exports are byte-identical, so this is what a finished one leaves
    target.unlink()
    # The moment the staging folder appears is the first at which anything could be half written.
    for delay in delays:
        if old is not None:
            target.write_bytes(old)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and not any(file.name.startswith(".net.onnx.") for file in tmp_path.iterdir()):
            time.sleep(0.002)
        time.sleep(delay)
        process.send_signal(stop)
        process.wait(60)
        if process.returncode == 0:
            continue  # it was faster than the signal, and had nothing left to interrupt
        assert process.returncode in (-stop, 128 + stop)
        # A signal that arrives after the rename finds the new file, whole.
        assert (target.read_bytes() if target.exists() else None) in (old, whole)
        left = [file.name for file in tmp_path.iterdir() if file.name != "net.onnx"]
        assert left == [] if stop == signal.SIGTERM else all(name.endswith(".tmp") for name in left)
        for name in left:
            shutil.rmtree(tmp_path / name)
        target.unlink(missing_ok=True)


@pytest.mark.slow("two exports by the command")
def test_integer_files_on_the_command_line(run_command: Any, checkpoint_path: Path, tmp_path: Path) -> None:
    loaded = codeq.load(checkpoint_path)
    assert loaded.held_inputs is not None
    np.savez(tmp_path / "inputs.npz", loaded.held_inputs.numpy())
    common = ["export.onnx", checkpoint_path, "-o", "net.onnx", "--activations", "int8"]
    done = run_command(*common, "--calibration", "inputs.npz", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "integer kernels       9 QLinearConv, 3 QLinearAdd, 1 QLinearGlobalAveragePool, 1 QGemm" in done.stdout
    assert "parity                codes differ: 0 of " in done.stdout
    assert max(len(line) for line in done.stdout.splitlines() if not line.startswith("to copy")) <= 100

    options = ["--calibration", tmp_path / "inputs.npz", "--ranges", "percentile", "--activations-except", "block1.*"]
    report = run_command(*common, *options, "--activations-except", "Linear", "--force", "--json", "-", cwd=tmp_path)
    values = json.loads(report.stdout)
    kernels = {kernel["name"]: kernel for kernel in values["parity"]["kernels"]}
    assert values["activations"]["ranges"] == "percentile"
    assert values["activations"]["exclude"] == ["block1.*", "Linear"]
    assert kernels["block1.add"] == {
        "name": "block1.add",
        "operator": "add",
        "kernel": "float",
        "reason": "excluded",
        "integer": False,
    }
    assert kernels["block2.conv1"]["kernel"] == "QLinearConv"
    assert values["parity"]["ok"]
    assert all(check["ok"] for check in values["parity"]["codes"])


def test_bad_input_about_activations(run_command: Any, checkpoint_path: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "shape.npz", np.ones((2, 3, 8, 8), np.float32))
    np.savez(tmp_path / "nan.npz", np.full((2, 1, 8, 8), np.nan, np.float32))
    np.savez(tmp_path / "none.npz", np.ones((0, 1, 8, 8), np.float32))
    np.savez(tmp_path / "zeros.npz", np.zeros((2, 1, 8, 8), np.float32))
    np.savez(tmp_path / "double.npz", np.ones((2, 1, 8, 8)))
    before = sorted(tmp_path.iterdir())
    int8 = ["--activations", "int8"]
    cases: list[tuple[list[Any], str]] = [
        (int8, "holds no calibration inputs; give some with --calibration, e.g. a folder of images"),
        ([*int8, "--calibration", tmp_path / "shape.npz"], "expected float32 (N, 1, 8, 8)"),
        ([*int8, "--calibration", tmp_path / "double.npz"], "is float64 (2, 1, 8, 8), expected float32"),
        ([*int8, "--calibration", tmp_path / "nan.npz"], "input 0 of 'arr_0' has NaN or infinite values"),
        ([*int8, "--calibration", tmp_path / "none.npz"], "'arr_0' holds no inputs"),
        (
            [*int8, "--calibration", tmp_path / "zeros.npz"],
            "every calibration input is zero; calibrate with inputs like those",
        ),
        ([*int8, "--calibration", tmp_path / "missing.npz"], "no such file"),
        (["--activations", "float32", "--ranges", "mse"], "are for --activations int8"),
        (["--activations-except", "fc"], "are for --activations int8"),
        (["--activations", "int4"], "invalid choice: 'int4'"),
    ]
    for arguments, message in cases:
        done = run_command("export.onnx", checkpoint_path, "-o", tmp_path / "net.onnx", *arguments)
        assert done.returncode == 2, (arguments, done)
        assert message in done.stderr, (arguments, done.stderr)
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert done.stdout == ""
        assert sorted(tmp_path.iterdir()) == before


def test_networks_that_cannot_be_exported_are_refused_in_one_line(
    run_command: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "refused.py").write_text(
        "import torch\nfrom torch import nn\n\n"
        "class Branch(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.fc = nn.Linear(4, 4)\n"
        "    def forward(self, x):\n        y = self.fc(x)\n        return y if y.sum() > 0 else -y\n\n"
        "class Odd(Branch):\n"
        "    def forward(self, x):\n        return torch.special.bessel_j0(self.fc(x))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import refused  # type: ignore[import-not-found]

    for name, message in (
        ("Branch", "torch.export cannot trace Branch: "),
        (
            "Odd",
            "cannot lower the network: prims.bessel_j0.default (at special_bessel_j0 in refused.py, line ",
        ),
    ):
        model = getattr(refused, name)()
        codeq.attach(model, bits=4)
        x = torch.randn(8, 4)
        codeq.save(tmp_path / "net.pt", model, input_shape=(4,), calibration_inputs=x, held_inputs=x)
        arguments = ["net.pt", "--model", f"refused:{name}", "--activations", "int8"]
        done = run_command("export.onnx", *arguments, cwd=tmp_path)
        assert done.returncode == 2, done
        assert message in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert not (tmp_path / "net.onnx").exists()


@pytest.mark.full
def test_training_with_int8_makes_integer_files_the_default(run_command: Any, tmp_path: Path) -> None:
    done = run_command("codeq.train", "--epochs", 1, "--activations", "int8", "-o", tmp_path / "net.pt")
    assert done.returncode == 0, done.stderr
    done = run_command("export.onnx", tmp_path / "net.pt")
    assert done.returncode == 0, done.stderr
    assert "ranges: learned in training" in done.stdout
    done = run_command("export.onnx", tmp_path / "net.pt", "--activations", "float32", "--force")
    assert "integer kernels" not in done.stdout
    done = run_command("export.onnx", tmp_path / "net.pt", "--ranges", "min-max", "--force")
    assert "ranges: min-max" in done.stdout
    assert "next to weight-only   outputs differ by up to " in done.stdout
    # Left out after training: what training did not quantize there is calibrated, the rest is as it was learned.
    done = run_command("export.onnx", tmp_path / "net.pt", "--activations-except", "block1.conv1", "--force")
    assert done.returncode == 0, done.stderr
    assert "ranges: learned in training" in done.stdout
