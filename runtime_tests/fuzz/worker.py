"""A worker is a process that runs our commands one after the other, within limits; it is started anew where a command
takes it down.

A process of its own for each command would import torch thousands of times. The worker answers as one would: what
went to stdout and stderr, also from compiled code, and the exit status.
"""

import json
import os
import resource
import select
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import IO

from codeq.toolkit import cli
from codeq.toolkit.startup import child_environment
from runtime_tests.bench.memory import peak_bytes, reset_peak

ADDRESS_BYTES = 12 * 2**30
"""The worker cannot have more; libraries reserve some of it without using it."""
WALL_SECONDS = 90
"""After so long it is killed, whatever it waits for."""
START_SECONDS = 300
SHOWN_BYTES = 20_000
"""So much of an output is looked at."""
PROGRAM = "from runtime_tests.fuzz.worker import serve; serve()"


@dataclass(frozen=True)
class Answer:
    """Holds what a command did. `status` is None where it took the worker down, or was killed: `died` says how.

    `cpu_seconds` and `peak_bytes` are those of the worker while it ran; `left` names files that it has put beside the
    one that it read.
    """

    status: int | None
    stdout: str = ""
    stderr: str = ""
    cpu_seconds: float = 0.0
    peak_bytes: int = 0
    left: tuple[str, ...] = ()
    died: str = ""


class Worker:
    """This process runs commands; a context manager."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def run(self, module: str, words: Sequence[str], folder: Path) -> Answer:
        """Run `python -m MODULE WORDS...` in a folder."""
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({"module": module, "words": list(words), "folder": str(folder)}) + "\n")
        process.stdin.flush()
        line = _line(process.stdout, WALL_SECONDS)
        if line:
            values = json.loads(line)
            return Answer(**values | {"left": tuple(values["left"])})
        self._stop()
        code = process.returncode
        return Answer(None, died=f"ended by signal {-code}" if line == "" else f"silent for {WALL_SECONDS} s")

    def _started(self) -> "subprocess.Popen[str]":
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=child_environment() | {"OMP_NUM_THREADS": "1", "COLUMNS": "100"},
            )
            assert self._process.stdout is not None
            if not _line(self._process.stdout, START_SECONDS):
                raise RuntimeError("the worker does not start")
        return self._process

    def _stop(self) -> None:
        if self._process is not None:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.close()
            try:
                self._process.wait(1)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process.stdout.close()
            self._process = None


def _line(stream: IO[str], seconds: float) -> str | None:
    """Wait for a line; "" where the other end is gone, None where nothing comes."""
    ready, _, _ = select.select([stream], [], [], seconds)
    return stream.readline() if ready else None


def serve() -> None:
    """Answer commands, one line of JSON each, until stdin ends: what the worker's process does."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_BYTES, ADDRESS_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        asked = json.loads(line)
        answer = _execute(asked["module"], asked["words"], Path(asked["folder"]))
        answers.write(json.dumps(asdict(answer)) + "\n")
        answers.flush()


def _execute(module: str, words: list[str], folder: Path) -> Answer:
    os.chdir(folder)
    before = set(os.listdir(folder))
    sys.argv = [module, *words]
    main = import_module(module).main
    reset_peak()
    start = os.times()
    saved = os.dup(1), os.dup(2)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        try:
            cli.run(main)
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 1
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, copy in enumerate(saved, start=1):
                os.dup2(copy, number)
                os.close(copy)
        end = os.times()
        seconds = end.user + end.system - start.user - start.system
        left = tuple(sorted(set(os.listdir(folder)) - before))
        return Answer(status, _text(out), _text(err), seconds, peak_bytes(), left)


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(SHOWN_BYTES).decode(errors="backslashreplace")
