"""A command in this process answers as one in a process of its own, and leaves nothing behind."""

import logging
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.commands import RUN_AS

ANSWERS = """
import logging, os, sys, warnings
logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING, stream=sys.stderr)
print("words", *sys.argv[1:], "in", os.path.basename(os.getcwd()), "on", os.environ["COLUMNS"])
logging.getLogger("answers").warning("logged")
warnings.warn("warned")
os.write(2, b"from compiled code\\n")
"""
ENDS = {
    "done": ("", 0),
    "status": ("sys.exit(3)", 3),
    "none": ("sys.exit()", 0),
    "text": ("sys.exit('why')", 1),
    "error": ("raise KeyError('x')", 1),
}


@pytest.mark.parametrize("end", ENDS)
def test_both_answer_alike(run_command: Any, run_process: Any, tmp_path: Path, monkeypatch: Any, end: str) -> None:
    line, status = ENDS[end]
    (tmp_path / "answers.py").write_text(f"{ANSWERS}\n{line}\n")
    monkeypatch.syspath_prepend(tmp_path)
    here = run_command("answers", "a", 1, cwd=tmp_path)
    assert here.returncode == status
    assert here.stdout == f"words a 1 in {tmp_path.name} on 100\n"
    if end in ("done", "text"):
        there = run_process("answers", "a", 1, cwd=tmp_path)
        assert (here.returncode, here.stdout, here.stderr) == (there.returncode, there.stdout, there.stderr)
    else:
        assert "WARNING: logged" in here.stderr
        assert "from compiled code" in here.stderr
        assert ("KeyError: 'x'" in here.stderr) == (end == "error")


CHANGES = """
import logging, os, random, signal, sys, torch, warnings
import numpy as np
import mine
torch.set_num_threads(3)
torch.set_default_dtype(torch.float64)
torch.manual_seed(9); random.seed(9); np.random.seed(9)
os.environ["LEFT"] = "behind"; sys.argv.append("x"); sys.path.append("y"); warnings.simplefilter("error")
logging.basicConfig(level=logging.DEBUG); signal.signal(signal.SIGTERM, lambda *_: None)
"""


def test_what_a_command_changes_is_put_back(run_command: Any, tmp_path: Path, monkeypatch: Any) -> None:
    def state() -> list[Any]:
        return [
            torch.get_num_threads(),
            torch.get_default_dtype(),
            torch.get_rng_state().tolist(),
            dict(os.environ),
            [*sys.argv],
            [*sys.path],
            [*warnings.filters],
            [*logging.root.handlers],
            logging.root.level,
            signal.getsignal(signal.SIGTERM),
            Path.cwd(),
            sys.stdout,
            "mine" in sys.modules,
        ]

    (tmp_path / "changes.py").write_text(CHANGES)
    (tmp_path / "mine.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    before = state()
    assert run_command("changes", cwd=tmp_path).returncode == 0
    assert state() == before


@pytest.mark.slow("a process of its own imports torch")
@pytest.mark.parametrize("module", [name for name in RUN_AS if name != "codeq_cli"])
def test_a_real_process_ends_with_status_2_and_one_line(run_process: Any, module: str) -> None:
    done = run_process(module, "--no-such-option")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"python -m {module}: error: ")
