"""A worker answers as a process of its own would, survives what kills it, and what is wrong with an answer is found."""

from pathlib import Path
from typing import Any

import pytest

from runtime_tests.fuzz.findings import find
from runtime_tests.fuzz.worker import Answer, Worker

TRACEBACK = "Traceback (most recent call last):\n  File ...\nKeyError: 30\n"
FINE = "error: net.onnx: is damaged\n"


@pytest.mark.quick
@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (Answer(2, stderr=FINE), ""),
        (Answer(0, stdout="fine\n", stderr="note: few inputs\n"), ""),
        (Answer(1, stdout="parity does not hold\n"), ""),
        (Answer(1, stderr=TRACEBACK), "traceback: KeyError: 30"),
        (Answer(None, died="ended by signal 11"), "ended by signal 11"),
        (Answer(3), "exit status 3"),
        (Answer(2, stderr=FINE + FINE), "2 lines on stderr"),
        (Answer(2), "0 lines on stderr"),
        (Answer(0, stderr=FINE), "1 lines on stderr"),
        (Answer(0, stdout="\x1b[2J"), "control characters"),
        (Answer(2, stderr=f"error: {'x' * 5000}\n"), "a line of 5007 characters"),
        (Answer(0, cpu_seconds=21.0), "21 CPU-seconds"),
        (Answer(0, peak_bytes=3 * 2**30), "3.0 GiB"),
        (Answer(2, stderr=FINE, left=("net.jsonl",)), ""),
        (Answer(2, stderr=FINE, left=(".dense.onnx.tmp",)), "leaves .dense.onnx.tmp"),
    ],
)
def test_findings(answer: Answer, what: str) -> None:
    found = find(answer, None)
    assert (what in found) if what else not found


@pytest.mark.quick
def test_a_command_writes_its_file_or_none() -> None:
    assert not find(Answer(0, left=("dense.onnx",)), "dense.onnx")
    assert find(Answer(0), "dense.onnx") == "leaves no file"
    assert find(Answer(2, stderr=FINE, left=("dense.onnx",)), "dense.onnx") == "leaves dense.onnx"


@pytest.mark.slow("two processes, one of which is killed")
def test_a_worker(tmp_path: Path, monkeypatch: Any) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "odd.py").write_text(
        "import ctypes, os, pathlib, sys, time\n"
        "def main(argv):\n"
        "    word = sys.argv[1]\n"
        "    if word == 'die': os.kill(os.getpid(), 11)\n"
        "    if word == 'sleep': time.sleep(60)\n"
        "    if word == 'error': raise KeyError(word)\n"
        "    os.write(2, b'compiled\\n')\n"
        "    pathlib.Path('left').write_text(word)\n"
        "    print(word)\n"
        "    return 7\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(own))
    monkeypatch.setattr("runtime_tests.fuzz.worker.WALL_SECONDS", 2)
    folder = tmp_path / "work"
    folder.mkdir()
    with Worker() as worker:
        answer = worker.run("odd", ["fine"], folder)
        assert (answer.status, answer.stdout, answer.stderr) == (7, "fine\n", "compiled\n")
        assert answer.left == ("left",)
        assert answer.peak_bytes > 0
        assert "KeyError" in find(worker.run("odd", ["error"], folder), None)
        assert worker.run("odd", ["die"], folder).died == "ended by signal 11"
        assert worker.run("odd", ["sleep"], folder).died == "silent for 2 s"
        assert worker.run("odd", ["again"], folder).stdout == "again\n"
