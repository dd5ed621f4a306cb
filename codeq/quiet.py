"""Keep what other packages note for their own developers off the user's screen while they work for us."""

import io
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr

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
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with tempfile.TemporaryFile() as sink, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            os.dup2(sink.fileno(), 1)
            os.dup2(sink.fileno(), 2)
            yield
            sys.stdout.flush()
            sys.stderr.flush()
    finally:
        logging.disable(level)
        for number, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, number)
            os.close(copy)


@contextmanager
def quiet_native(*beginnings: str) -> Iterator[None]:
    """Drop lines that a native library writes to stderr and that begin like these; all others appear afterwards."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            caught.seek(0)
            lines = caught.read().decode(errors="replace").splitlines(keepends=True)
            sys.stderr.write("".join(line for line in lines if not line.startswith(beginnings)))
