"""A file of somebody else's runs in a process of its own: as it would in this one, and its death is one line."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

pytest.importorskip("ai_edge_litert", reason="LiteRT is an extra: pip install '.[tflite]'")

from export.errors import ExportError
from export.tflite import child as child_module
from export.tflite.child import Child, RemoteSession, child_of
from export.tflite.file.flatbuffer import write
from export.tflite.file.graph import Graph, Tensor
from export.tflite.run import BUILTIN, XNNPACK
from export.tflite.runner import LiteRtRunner
from export.tflite.session import Session
from export.tflite.trusted import is_trusted
from tests.export.tflite.file.small import changed, small_file, tensor

X = np.linspace(-1, 1, 150, dtype=np.float32).reshape(3, 5, 5, 2)


def depthwise(bias: bool) -> bytes:
    """A depthwise convolution; without its bias, LiteRT reads memory that nobody gave it."""
    graph, floats = Graph(), np.dtype(np.float32)
    x = graph.add_tensor(Tensor("x", (1, 5, 5, 2), floats, open_batch=(0,)))
    weight = graph.add_tensor(Tensor("weight", (1, 3, 3, 2), floats, np.ones((1, 3, 3, 2), np.float32)))
    added = graph.add_tensor(Tensor("bias", (2,), floats, np.float32([1, 2])))
    y = graph.add_tensor(Tensor("y", (1, 3, 3, 2), floats, open_batch=(0,)))
    operands = (x, weight, added) if bias else (x, weight)
    options = {
        "padding": 1,
        "strideW": 1,
        "strideH": 1,
        "dilationWFactor": 1,
        "dilationHFactor": 1,
        "depthMultiplier": 1,
    }
    graph.add_operator("DEPTHWISE_CONV_2D", 1, operands, y, options)
    graph.inputs, graph.outputs = {"x": x}, {"y": y}
    return write(graph, {})


def remote(data: bytes, kernels: str = XNNPACK) -> RemoteSession:
    return RemoteSession(Child(Path("net.tflite"), len(data)), data, kernels, 1)


@pytest.mark.parametrize("kernels", [XNNPACK, BUILTIN])
def test_it_computes_what_this_process_does(kernels: str) -> None:
    data = small_file()
    there, here = remote(data, kernels), Session(data, kernels, 1)
    assert (there.inputs, there.outputs, there.shapes) == (here.inputs, here.outputs, here.shapes)
    for session in (there, here):
        session.resize([X.shape])
        assert session.shapes == (X.shape,)
    for found, expected in zip(there.run([X]), here.run([X]), strict=True):
        assert np.array_equal(found, expected)


def test_a_crash_is_one_line() -> None:
    assert remote(depthwise(True)).run([X[:1]])[0].shape == (1, 3, 3, 2)
    session = remote(depthwise(False))
    message = r"^net\.tflite: LiteRT died of SIG\w+ as it ran it.*: export it again$"
    with pytest.raises(ExportError, match=message):
        session.run([X[:1]])
    with pytest.raises(ExportError, match=message):  # and it stays dead
        session.run([X[:1]])


def test_the_next_session_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(small_file())
    runner = LiteRtRunner(path)
    runner.open()
    process = child_of(path, small_file()).process
    os.kill(process.pid, signal.SIGSEGV)
    process.wait()
    with pytest.raises(ExportError, match=r"net\.tflite: LiteRT died of SIGSEGV as it resized it"):
        runner.prepare([X])
    runner = LiteRtRunner(path)
    runner.open()
    assert runner.run(runner.prepare([X]))[0].shape == (3, 5, 5, 4)


def test_what_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    def endless_rows(model: Any) -> None:
        tensor(model, "sparse").sparsity.dimMetadata[0].denseSize = 2**31 - 1

    monkeypatch.setattr(child_module, "SECONDS", 1)
    message = r"^net\.tflite: LiteRT did not end within 1 s as it opened it; .* set CODEQ_LITERT_SECONDS where .* slow$"
    with pytest.raises(ExportError, match=message):
        remote(changed(endless_rows))


def test_memory_is_limited() -> None:
    session = remote(small_file())
    with pytest.raises((ExportError, RuntimeError)):
        session.resize([(1, 30_000, 30_000, 2)])


def test_what_litert_refuses_is_its_own_error() -> None:
    session = remote(small_file())
    with pytest.raises(RuntimeError):
        session.resize([(1, 5, 5, 7)])
    with pytest.raises(RuntimeError, match="Cannot set tensor"):
        remote(small_file()).run([X])


def test_sessions_of_a_file_share_a_process(tmp_path: Path) -> None:
    data = small_file()
    path = tmp_path / "net.tflite"
    path.write_bytes(data)
    first, second = LiteRtRunner(path), LiteRtRunner(path, kernels=BUILTIN)
    first.open()
    second.open()
    assert isinstance(first.session, RemoteSession)
    assert isinstance(second.session, RemoteSession)
    assert first.session._child is second.session._child is child_of(path, data)


def test_who_wrote_it_decides(export: Callable[..., Any], run_command: Callable[..., Any], tmp_path: Path) -> None:
    """The exporter's own check stays in this process; a file that was tried out runs here from then on."""
    from export.tflite.backend import TFLITE

    path = export(lambda m, x: m.fc(x.mean((2, 3))), (3, 4, 4), fc=nn.Linear(3, 4)).path
    assert is_trusted(path.read_bytes())
    assert not LiteRtRunner(path).is_remote
    other = tmp_path / "other.tflite"
    other.write_bytes(small_file())
    assert LiteRtRunner(other).is_remote
    ran: list[bool] = []
    TFLITE.try_out(other, lambda runner: ran.append(runner.is_remote))
    assert ran == [True]
    assert not LiteRtRunner(other).is_remote


def test_a_crash_is_exit_status_2(
    run_command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check of operands is left out, as for a crash that it does not know."""
    monkeypatch.setattr("export.tflite.file.semantics.check_operands", lambda *arguments: None)
    path = tmp_path / "net.tflite"
    path.write_bytes(depthwise(False))
    done = run_command("runtime_tests.bench", path)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"error: {path}: LiteRT died of SIG")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow("its memory is measured in a process that loads PyTorch")
def test_bench_measures_a_file_of_others(run_command: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(depthwise(True))
    done = run_command("runtime_tests.bench", path, "--seconds", "0.1", "--json", "-")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["files"][0]["latency_ms"] > 0
