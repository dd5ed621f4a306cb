"""This is the process that runs a .tflite file of somebody else's in LiteRT, at the command of another (child.py).

It limits itself: a call that takes too long, or memory beyond its allowance, ends this process and no other.
"""

import os
import signal
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from codeq.errors import first_line
from codeq.toolkit.text import printable
from export.tflite.messages import receive, send
from export.tflite.runtime import interpreter
from export.tflite.session import Session

LONGEST_ERROR = 500
STATUS = Path("/proc/self/status")


def serve() -> None:
    """Answer calls on stdin until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who asks decides what an interrupt means
    calls = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what LiteRT prints is no answer
    interpreter()
    allowance = _Allowance()
    sessions: dict[int, Session] = {}
    while True:
        try:
            call, arrays = receive(calls)
        except EOFError:
            return
        for number in call["dropped"]:
            sessions.pop(number, None)
        allowance.grow(call["memory"])
        _end_after(call["seconds"])
        try:
            values, results = _answer(call, arrays, sessions)
        except (RuntimeError, ValueError, TypeError, MemoryError, OverflowError) as error:
            values, results = {"error": printable(first_line(error), LONGEST_ERROR)}, []
        _end_after(0)
        send(answers, values, results)


def _answer(
    call: dict[str, Any], arrays: list[np.ndarray], sessions: dict[int, Session]
) -> tuple[dict[str, Any], list[np.ndarray]]:
    number = call["session"]
    if call["call"] == "open":
        file = Path(call["path"]) if call["path"] else arrays[0].tobytes()
        sessions[number] = Session(file, call["kernels"], call["threads"])
        opened = sessions[number]
        described = {"inputs": [*map(asdict, opened.inputs)], "outputs": [*map(asdict, opened.outputs)]}
        return {**described, "shapes": opened.shapes}, []
    if call["call"] == "resize":
        sessions[number].resize([tuple(shape) for shape in call["shapes"]])
        return {"shapes": sessions[number].shapes}, []
    return {}, sessions[number].run(arrays)


def _end_after(seconds: int) -> None:
    """Let the system end this process, wherever it is, after a while; 0 calls that off."""
    if hasattr(signal, "alarm"):
        signal.alarm(seconds)


class _Allowance:
    """Holds how much more memory than at its start this process may take, where the system can limit that."""

    def __init__(self) -> None:
        self.start = 0
        if STATUS.exists():
            line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmSize"))
            self.start = int(line.split()[1]) * 1024

    def grow(self, size_bytes: int) -> None:
        if not self.start:
            return
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        limit = self.start + size_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
