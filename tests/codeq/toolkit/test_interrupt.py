"""Ctrl-C ends a command from its first import on. Real processes send it to themselves, at an import by its number."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from codeq.toolkit import interrupt
from codeq.toolkit.startup import ROOT

INTERRUPT = """
import os, signal, sys

begun = {"interrupt.py", "codeq_cli.py"}  # what Ctrl-C is dealt with in, first of all
left = None

def watch(event, words):
    global left
    if event == "exec" and left is None and os.path.basename(getattr(words[0], "co_filename", "")) in begun:
        left = int(os.environ["IMPORTS"])
    elif event == "import" and left is not None:
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGINT)

sys.addaudithook(watch)
"""
COMMANDS = (["-m", "codeq.train"], ["-m", "export.onnx"], ["-m", "runtime_tests.zoo"], ["-m", "codeq_cli", "bench"])


def run(folder: Path, *command: str, imports: int) -> tuple[int, str]:
    """Run a command that gets SIGINT at its n-th import behind our first line."""
    (folder / "sitecustomize.py").write_text(INTERRUPT)
    path = os.pathsep.join([str(folder), str(ROOT)])
    done = subprocess.run(
        [sys.executable, *command, "--help"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | {"PYTHONPATH": path, "IMPORTS": str(imports)},
        # A test run in the background ignores SIGINT, and its children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("imports", [1, 2, 4, 8, 16, 32])
def test_ctrl_c_as_early_as_we_can_see_it(command: list[str], imports: int, tmp_path: Path) -> None:
    assert run(tmp_path, *command, imports=imports) == (130, "interrupted\n")


def test_without_it_the_command_is_done(tmp_path: Path) -> None:
    assert run(tmp_path, "-m", "codeq.train", imports=10**6) == (0, "")


@pytest.mark.parametrize(
    ("words", "original", "ours"),
    [
        (["-m", "x"], ["python", "-q", "-m", "codeq.train", "x"], True),
        (["-m"], ["python", "-m", "export.onnx"], True),
        (["-m"], ["python", "-m", "pytest"], False),
        (["-m"], ["python", "-m", "codeqs"], False),
        (["/a/train.py", "-m"], ["python", "-m", "codeq.train"], False),
        (["a.py"], ["python", "a.py"], False),
        ([""], ["python"], False),
    ],
)
def test_programs_of_others_are_left_alone(
    words: list[str], original: list[str], ours: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.setattr(sys, "orig_argv", original)
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    interrupt.end_if_uncaught()
    assert (sys.excepthook is not sys.__excepthook__) == ours


def test_other_exceptions_show_as_ever(capsys: pytest.CaptureFixture[str]) -> None:
    interrupt._hook(KeyError, KeyError("x"), None)
    assert capsys.readouterr().err == "KeyError: 'x'\n"
