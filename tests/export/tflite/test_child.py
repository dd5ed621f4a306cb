"""A file of somebody else's runs in another process, as it would in this one; its death is one line here."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from export import export_tflite
from export.errors import ExportError
from export.tflite import child, trusted
from export.tflite.child import child_of
from export.tflite.runner import LiteRtRunner


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    import codeq

    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5)).eval()
    codeq.attach(model, 4)
    codeq.freeze(model)
    target = tmp_path_factory.mktemp("child") / "net.tflite"
    export_tflite(model, (torch.randn(2, 3, 8, 8),), target)
    return target


def run(path: Path, batch: int = 3) -> list[np.ndarray]:
    runner = LiteRtRunner(path)
    runner.open()
    inputs = np.random.default_rng(0).normal(size=(batch, 3, 8, 8)).astype(np.float32)
    return runner.finish(runner.run(runner.prepare([inputs])))


@pytest.fixture
def strange(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same file, as if another process had written it."""
    monkeypatch.setattr(trusted, "_DIGESTS", set())
    return path


def test_it_computes_what_this_process_computes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not LiteRtRunner(path).is_remote  # this process has written it
    here = run(path)
    monkeypatch.setattr(trusted, "_DIGESTS", set())
    assert LiteRtRunner(path).is_remote
    for one, other in zip(run(path), here, strict=True):
        assert np.array_equal(one, other)


def test_sessions_of_a_file_share_a_process(strange: Path) -> None:
    first = child_of(strange, strange.read_bytes())
    run(strange)
    run(strange, batch=1)
    assert child_of(strange, strange.read_bytes()) is first
    assert first.sessions >= 2


def test_its_death_is_one_line_and_the_next_session_starts_anew(strange: Path) -> None:
    runner = LiteRtRunner(strange)
    runner.open()
    process = child_of(strange, strange.read_bytes()).process
    os.kill(process.pid, signal.SIGSEGV)
    process.wait()
    with pytest.raises(ExportError, match=r"net\.tflite: LiteRT died of SIGSEGV as it (ran|resized) it"):
        runner.run(runner.prepare([np.zeros((1, 3, 8, 8), np.float32)]))
    assert len(run(strange)) == 1


def test_what_does_not_end_is_ended(strange: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "_seconds", lambda size_bytes: 1)
    runner = LiteRtRunner(strange)
    runner.open()
    process = child_of(strange, strange.read_bytes()).process
    inputs: Any = runner.prepare([np.zeros((1, 3, 8, 8), np.float32)])
    os.kill(process.pid, signal.SIGSTOP)  # so that its alarm rings while it works
    try:
        monkeypatch.setattr(child, "receive", lambda pipe: _wake(process, pipe))
        with pytest.raises(ExportError, match="LiteRT did not end within 1 s as it ran it"):
            runner.run(inputs)
    finally:
        process.kill()


def _wake(process: Any, pipe: Any) -> Any:
    os.kill(process.pid, signal.SIGALRM)
    os.kill(process.pid, signal.SIGCONT)
    process.wait()
    raise EOFError
