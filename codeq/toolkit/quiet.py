"""Keep what other packages note for their own developers off the user's screen while they work for us."""

import io
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from typing import IO, TextIO

NOISY = ("torch.onnx", "torch.export", "torch._subclasses", "torch._dynamo", "torch.fx", "onnxscript", "onnx_ir")
"""Loggers of deprecations, of a missing torchvision, and of errors that also arrive as exceptions."""


@contextmanager
def quiet_torch() -> Iterator[None]:
    """Silence warnings, those loggers, and what torch prints to stderr about a failure; exceptions pass."""
    loggers = [logging.getLogger(name) for name in NOISY]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def silence() -> Iterator[None]:
    """Drop what is printed and logged, also by compiled code, which writes to the process's own stdout and stderr."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with tempfile.TemporaryFile() as sink, _redirected(sink, sys.stdout, sys.stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


@contextmanager
def quiet_native(*beginnings: str) -> Iterator[None]:
    """Drop lines that a native library writes to stderr and that begin like these; all others appear afterwards."""
    with tempfile.TemporaryFile() as caught:
        try:
            with _redirected(caught, sys.stderr):
                yield
        finally:
            caught.seek(0)
            lines = caught.read().decode(errors="replace").splitlines(keepends=True)
            sys.stderr.write("".join(line for line in lines if not line.startswith(beginnings)))


@contextmanager
def _redirected(sink: IO[bytes], *streams: TextIO) -> Iterator[None]:
    """Let the process's own stdout or stderr, by the streams' kind, write to a file."""
    numbers = [1 if stream is sys.stdout else 2 for stream in streams]
    for stream in streams:
        stream.flush()
    kept = [os.dup(number) for number in numbers]
    try:
        for number in numbers:
            os.dup2(sink.fileno(), number)
        yield
    finally:
        for stream, number, copy in zip(streams, numbers, kept, strict=True):
            stream.flush()
            os.dup2(copy, number)
            os.close(copy)
