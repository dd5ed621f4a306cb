"""A process that has the libraries loaded forks one child for each command, and kills it when it is told to. It loads
what a child had to load, once that has ended.

A kill comes at a time, or just before the n-th change to a file of the command's folder: those are what Python's audit
events name (PEP 578), so every gap between two writes can be hit.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from codeq.toolkit import cli
from codeq.toolkit.startup import child_environment

PROGRAM = "from runtime_tests.kills.forks import serve; serve()"
LIMIT_SECONDS = 120.0
CHANGES = ("os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod", "os.symlink")
SHOWN_BYTES = 4000
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass(frozen=True)
class Kill:
    """Says when a child dies: before the change of that number, from 1, or after so many seconds."""

    change: int | None = None
    seconds: float | None = None

    def __str__(self) -> str:
        return f"before change {self.change}" if self.change else f"after {self.seconds or 0:.3f} s"


@dataclass(frozen=True)
class Ended:
    """Says how a child ended: its exit status, None where it was killed, and what it changed until then."""

    status: int | None
    seconds: float
    changes: int
    stderr: str


class Forks:
    """The process that forks; a context manager."""

    def __enter__(self) -> "Forks":
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=child_environment() | {"OMP_NUM_THREADS": "1", "COLUMNS": "100", "MPLBACKEND": "agg"},
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def run(self, module: str, words: Sequence[str], folder: Path, kill: Kill | None = None) -> Ended:
        """Run `python -m MODULE WORDS...` in a folder, to its end or to its kill."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = {"module": module, "words": list(words), "folder": str(folder), "kill": asdict(kill or Kill())}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the process that forks is gone")
        return Ended(**json.loads(line))


def serve() -> None:
    """Fork a child for every line of JSON on stdin: what the process does."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        answers.write(json.dumps(asdict(_fork(json.loads(line)))) + "\n")
        answers.flush()


def _fork(asked: dict[str, Any]) -> Ended:
    kill = Kill(**asked["kill"])
    counter, errors, loaded = (os.memfd_create(name) for name in ("changes", "stderr", "loaded"))
    start = time.monotonic()
    child = os.fork()
    if not child:
        _be_the_child(asked, kill, counter, errors, loaded)
    limit = LIMIT_SECONDS if kill.seconds is None else kill.seconds
    status = _wait(child, start + limit)
    if status is None:
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    seconds = time.monotonic() - start
    changes, stderr = os.fstat(counter).st_size, os.pread(errors, SHOWN_BYTES, 0).decode(errors="backslashreplace")
    _load(os.pread(loaded, os.fstat(loaded).st_size, 0).decode().split())
    for file in (counter, errors, loaded):
        os.close(file)
    return Ended(os.WEXITSTATUS(status) if os.WIFEXITED(status) else None, seconds, changes, stderr)


def _load(names: Sequence[str]) -> None:
    for name in names:
        with suppress(Exception):  # what cannot be imported by itself the next child loads again
            import_module(name)


def _wait(child: int, end: float) -> int | None:
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        left = end - time.monotonic()
        if left <= 0:
            return None
        time.sleep(min(left, 0.002))


def _be_the_child(asked: dict[str, Any], kill: Kill, counter: int, errors: int, loaded: int) -> None:
    """Run the command, and never return."""
    status, known = 1, set(sys.modules)
    try:
        os.chdir(asked["folder"])
        os.dup2(errors, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.argv = [asked["module"], *asked["words"]]
        main = import_module(asked["module"]).main
        _watch(asked["folder"], kill.change, counter)
        cli.run(main)
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(bool(stop.code))
    finally:
        sys.stderr.flush()
        os.write(loaded, " ".join(name for name in list(sys.modules) if name not in known).encode())
        os._exit(status)


def _watch(folder: str, last: int | None, counter: int) -> None:
    """Count changes in a folder, a byte in a file for each, and die before the last one."""
    changes = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal changes
        if event == "open":
            path, _, flags = arguments
            if not isinstance(flags, int) or not flags & WRITING:
                return
        elif event in CHANGES:
            path = arguments[0]
        else:
            return
        if not isinstance(path, str | os.PathLike) or not os.path.abspath(os.fspath(path)).startswith(f"{folder}/"):
            return
        changes += 1
        if changes == last:
            os.kill(os.getpid(), signal.SIGKILL)
        os.write(counter, b".")

    sys.addaudithook(hook)
