"""A .tflite file that this process has not written itself runs in another process, which a crash of LiteRT ends alone.

LiteRT crashes on damaged files, or never ends; checks before (file/verify_file.py) see most of these, and cannot see
all. Each file has one such process, for all of its sessions; a call has limits on time and memory.
"""

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from codeq.toolkit.startup import child_environment
from codeq.toolkit.text import printable
from export.errors import ExportError
from export.tflite.messages import receive, send
from export.tflite.session import TensorDetail

SECONDS = 10
"""A call ends in this time, or in the environment's SECONDS_VARIABLE, and in SECONDS_PER_MB of inputs and file more."""
SECONDS_PER_MB = 4
SECONDS_VARIABLE = "CODEQ_LITERT_SECONDS"
MEMORY = 3 * 2**29
"""Bytes that a file may take, beside those of its threads, file and inputs."""
MEMORY_PER_THREAD = 2**27
"""Address space of a thread's stack and heap."""
MEMORY_PER_FILE_BYTE = 8
MEMORY_PER_INPUT_BYTE = 64
SHOWN = 200


class Child:
    """Runs one file.

    Args:
        path: For messages.
        size_bytes: Of the file.
    """

    def __init__(self, path: Path, size_bytes: int) -> None:
        self.path = path
        self.size_bytes = size_bytes
        self.memory = MEMORY + MEMORY_PER_FILE_BYTE * size_bytes
        self.sessions = 0
        self.dropped: list[int] = []
        self.notes = tempfile.TemporaryFile()  # noqa: SIM115  it lives as long as the process
        one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from export.tflite.worker import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.notes,
            env=child_environment() | one_thread,
        )
        weakref.finalize(self, _end, self.process, self.notes)

    def call(
        self, call: str, session: int, arrays: Sequence[np.ndarray] = (), **values: Any
    ) -> tuple[dict[str, Any], list[np.ndarray]]:
        """Let it do something.

        Args:
            call: What, as worker.py knows it.
            session: Number of the session.
            arrays: Inputs, or the file's content.
            values: Further arguments.

        Raises:
            ExportError: It died over it, or took too long.
            RuntimeError: LiteRT refuses it.
        """
        size_bytes = sum(array.nbytes for array in arrays)
        self.memory = max(self.memory, self.memory_for(size_bytes))
        seconds = _seconds(size_bytes + self.size_bytes)
        dropped, self.dropped = self.dropped, []
        limits = {"seconds": seconds, "memory": self.memory, "dropped": dropped}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            send(self.process.stdin, {"call": call, "session": session, **limits, **values}, arrays)
            answer, results = receive(self.process.stdout)
        except (EOFError, OSError) as error:
            raise ExportError(f"{self.path}: {self._death(call, seconds)}") from error
        except (ValueError, TypeError, KeyError) as error:
            self.process.kill()
            raise ExportError(f"{self.path}: the process that runs it answers nonsense; export it again") from error
        if "error" in answer:
            raise RuntimeError(printable(str(answer["error"]), SHOWN))
        return answer, results

    def memory_for(self, input_bytes: int) -> int:
        """Give the bytes that it may take for inputs of a size."""
        return MEMORY + MEMORY_PER_FILE_BYTE * self.size_bytes + MEMORY_PER_INPUT_BYTE * input_bytes

    def _death(self, call: str, seconds: int) -> str:
        """Say how the process died."""
        try:
            code = self.process.wait(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        doing = {"open": "opened it", "resize": "resized it"}.get(call, "ran it")
        if code == -getattr(signal, "SIGALRM", 0):
            way_out = f"export it again, or set {SECONDS_VARIABLE} where the machine is that slow"
            return f"LiteRT did not end within {seconds} s as it {doing}; {way_out}"
        name = signal.Signals(-code).name if code < 0 else f"status {code}"
        self.notes.seek(0)
        lines = self.notes.read().decode(errors="replace").splitlines()
        notes = [line.strip() for line in lines if line.strip() and not line.startswith(("INFO:", "  "))]
        said = f" ({printable(notes[-1], SHOWN)})" if notes else ""
        return f"LiteRT died of {name} as it {doing}{said}; the file is damaged, or asks for too much: export it again"


def _end(process: subprocess.Popen[bytes], notes: Any) -> None:
    process.kill()
    process.wait()
    for pipe in filter(None, (process.stdin, process.stdout, notes)):
        with contextlib.suppress(OSError):  # what was not yet written has no reader any more
            pipe.close()


def _seconds(size_bytes: int) -> int:
    longer = os.environ.get(SECONDS_VARIABLE, "")
    return max(SECONDS, int(longer) if longer.isdecimal() else 0) + SECONDS_PER_MB * size_bytes // 10**6


class RemoteSession:
    """See `AnySession`: in a process of its own.

    Args:
        child: The file's process.
        file: Its bytes, or its path.
        kernels, threads: As for `open_interpreter`.
    """

    def __init__(self, child: Child, file: bytes | Path, kernels: str, threads: int) -> None:
        self._child = child
        self._number = child.sessions = child.sessions + 1
        child.memory += MEMORY_PER_THREAD * threads
        arrays = [] if isinstance(file, Path) else [np.frombuffer(file, np.uint8)]
        path = str(file.resolve()) if isinstance(file, Path) else ""
        answer, _ = child.call("open", self._number, arrays, path=path, kernels=kernels, threads=threads)
        weakref.finalize(self, child.dropped.append, self._number)
        self.inputs = tuple(map(_detail, answer["inputs"]))
        self.outputs = tuple(map(_detail, answer["outputs"]))
        self.shapes = _shapes(answer)

    def resize(self, shapes: Sequence[tuple[int, ...]]) -> None:
        count = sum(int(np.prod(shape, dtype=np.int64)) for shape in shapes)
        self._child.memory = max(self._child.memory, self._child.memory_for(8 * count))
        answer, _ = self._child.call("resize", self._number, shapes=[[*map(int, shape)] for shape in shapes])
        self.shapes = _shapes(answer)

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        return self._child.call("run", self._number, arrays)[1]


def _detail(values: dict[str, Any]) -> TensorDetail:
    sizes = {key: tuple(map(int, values[key])) for key in ("shape", "signature")}
    return TensorDetail(**(values | sizes))


def _shapes(answer: dict[str, Any]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(map(int, shape)) for shape in answer["shapes"])


_children: "weakref.WeakValueDictionary[bytes, Child]" = weakref.WeakValueDictionary()
_latest: list[Child] = []
"""The child that was asked for last stays, so that the next session of its file finds it."""


def child_of(path: Path, data: bytes) -> Child:
    """Give the process that runs a file, started where there is none.

    Args:
        path: The file's.
        data: Its bytes.
    """
    key = hashlib.sha256(data).digest()
    child = _children.get(key)
    if child is None or child.process.poll() is not None:
        child = _children[key] = Child(path, len(data))
    _latest[:] = [child]
    return child
