"""The command: trained weights and inputs in, a checkpoint out that exports."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import codeq
import models
from codeq.compress import names
from codeq.compress.network import METHODS

pytestmark = pytest.mark.slow("a network is traced and exported")


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    torch.save(models.create("autoencoder", in_features=16).state_dict(), tmp_path / "weights.pt")
    np.save(tmp_path / "inputs.npy", np.random.default_rng(0).standard_normal((40, 16)).astype(np.float32))
    return tmp_path


def test_a_checkpoint_that_exports(trained: Path, run_command: Any) -> None:
    words = ("codeq.compress", "--model", "autoencoder", "--model-args", '{"in_features": 16}', "--init", "weights.pt")
    words += ("--calibration", "inputs.npy", "--bits", 4, "--json", "report.json")
    done = run_command(*words, cwd=trained)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "ckpt.pt written"
    assert "outputs keep" in done.stdout
    values = json.loads((trained / "report.json").read_text())
    assert values["format_version"] == 1
    assert (values["method"], values["inputs"], values["held_inputs"]) == ("obq", 35, 5)
    loaded = codeq.load(trained / "ckpt.pt")
    assert loaded.held_inputs is not None
    assert len(loaded.held_inputs) == 5
    bits = [encoding.bit_width for encoding in codeq.encode(loaded.model).values()]
    assert bits == [weight["bits"] for weight in values["weights"]]
    done = run_command("export.onnx", "ckpt.pt", "--activations", "int8", cwd=trained)
    assert done.returncode == 0, done.stderr
    again = run_command(*words, cwd=trained)
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)


def test_a_budget(trained: Path, run_command: Any) -> None:
    words = ("codeq.compress", "--model", "autoencoder", "--model-args", '{"in_features": 16}', "--init", "weights.pt")
    words += ("--calibration", "inputs.npy", "--json", "report.json", "--force", "--size", "60kB")
    done = run_command(*words, cwd=trained)
    assert done.returncode == 0, done.stderr
    assert "budget 60.0 kB: " in done.stdout
    values = json.loads((trained / "report.json").read_text())
    assert values["budget"]["met"]
    assert values["budget"]["reached"] <= 60_000 * 1.05
    assert len(values["frontier"]) > 3


def test_equalised(trained: Path, run_command: Any) -> None:
    words = ("codeq.compress", "--model", "autoencoder", "--model-args", '{"in_features": 16}', "--init", "weights.pt")
    words += ("--calibration", "inputs.npy", "--json", "report.json", "--equalise", "activations", "--absorb")
    done = run_command(*words, cwd=trained)
    assert done.returncode == 0, done.stderr
    assert "pairs scaled by activations" in done.stdout
    values = json.loads((trained / "report.json").read_text())["equalisation"]
    assert (values["by"], values["pairs"], values["output_decibels"]) == ("activations", 9, [200.0])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "nothing"], "nothing"),
        (["--model", "autoencoder", "--model-args", '{"wrong": 1}'], "--model autoencoder"),
        (["--model", "autoencoder", "--calibration", "none.npy"], "none.npy: no such file or folder"),
        (["--model", "autoencoder", "--init", "none.pt"], "none.pt"),
        (["--model", "autoencoder", "--bits", "9"], "--bits"),
        (["--model", "autoencoder", "--equalise", "all"], "--equalise"),
        (["--model", "autoencoder"], "16"),
        (["--model", "autoencoder", "--model-args", '{"in_features": 16}', "--size", "1kB"], "1.0 kB is out of reach"),
        (["--model", "autoencoder", "--size", "1kB", "--bops", "0.1"], "not allowed with"),
    ],
)
def test_bad_input_is_one_line(words: list[str], message: str, trained: Path, run_command: Any) -> None:
    given = words if "--calibration" in words else [*words, "--calibration", "inputs.npy"]
    done = run_command("codeq.compress", *given, cwd=trained)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (trained / "ckpt.pt").exists()


def test_the_names_are_those_of_the_methods() -> None:
    assert tuple(METHODS) == names.METHODS
