"""`--trust-factory` runs what a checkpoint names, and nothing does without it."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import codeq

NETWORK = """
from torch import nn

def build(width=4):
    open("it_ran", "a").write("x")
    return nn.Sequential(nn.Flatten(), nn.Linear(6, width))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a network of the user's and its checkpoint, in which commands run."""
    (tmp_path / "mine.py").write_text(NETWORK)
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 5)).eval()
    codeq.attach(model, 4)
    codeq.freeze(model)
    x = torch.randn(8, 2, 3, generator=torch.Generator().manual_seed(0))
    about: dict[str, Any] = {"input_shape": (2, 3), "calibration_inputs": x, "held_inputs": x}
    codeq.save(tmp_path / "ckpt.pt", model, factory="mine:build", arguments={"width": 5}, **about)
    codeq.save(tmp_path / "none.pt", model, **about)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_is_trusted_where_that_is_said(folder: Path, run_command: Any) -> None:
    done = run_command("export.onnx", "ckpt.pt", "-o", "net.onnx", cwd=folder)
    assert done.returncode == 2
    assert "pass --model mine:build --model-args '{\"width\": 5}'" in done.stderr
    assert not (folder / "it_ran").exists()
    done = run_command("export.onnx", "ckpt.pt", "-o", "net.onnx", "--trust-factory", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "ckpt.pt names mine:build, which is run as --trust-factory allows" in done.stderr
    assert (folder / "it_ran").exists()
    done = run_command("runtime_tests.parity", "ckpt.pt", "net.onnx", "--trust-factory", cwd=folder)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["ckpt.pt", "--model", "mine:build"],
            "--trust-factory takes the function and its arguments from the checkpoint",
        ),
        (["none.pt"], "none.pt: names no function that builds its network; leave --trust-factory out"),
        (["missing.pt"], "missing.pt: no such file"),
    ],
    ids=["both", "nothing", "no file"],
)
def test_what_cannot_be_trusted_is_one_line(words: list[str], message: str, folder: Path, run_command: Any) -> None:
    done = run_command("export.onnx", *words, "-o", "net.onnx", "--trust-factory", cwd=folder)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (folder / "net.onnx").exists()


def test_a_function_that_is_not_there(folder: Path, run_command: Any) -> None:
    (folder / "mine.py").unlink()
    done = run_command("export.onnx", "ckpt.pt", "-o", "net.onnx", "--trust-factory", cwd=folder)
    assert done.returncode == 2
    assert "--model mine:build: cannot be imported (No module named 'mine')" in done.stderr
    assert "mine" not in sys.modules
