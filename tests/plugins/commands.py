"""Commands run as a user runs them: `run_process` in a process of their own, `run_command` in this one.

A process of its own costs seconds before the command's first line, for importing torch. `run_command` executes
`python -m MODULE ARGUMENTS...` here, on the libraries that are loaded already, and answers alike: exit status, what
went to stdout and stderr (also from compiled code), in a working directory, on a terminal of 100 columns. What a
command changes in its process is put back behind it.
"""

import contextlib
import importlib
import io
import logging
import os
import random
import runpy
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import IO

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "100", "CI": ""}
TIMEOUT_SECONDS = 300

Command = Callable[..., CompletedProcess[str]]


@pytest.fixture
def run_process() -> Command:
    """Run `python -m MODULE ARGUMENTS...` in a process of its own."""

    def run(module: str, *arguments: object, cwd: Path | None = None) -> CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", module, *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=cwd,
            env=os.environ | ENVIRONMENT,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )

    return run


@pytest.fixture
def run_command() -> Command:
    """Run `python -m MODULE ARGUMENTS...` in this process."""

    def run(module: str, *arguments: object, cwd: Path | None = None) -> CompletedProcess[str]:
        words = [*map(str, arguments)]
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            inside = (
                _as_found(),
                contextlib.chdir(cwd or Path.cwd()),
                _streams(out, err),
                _as_in_a_new_process(module, words),
            )
            with contextlib.ExitStack() as stack:
                for context in inside:
                    stack.enter_context(context)
                status = _execute(module)
            return CompletedProcess([sys.executable, "-m", module, *words], status, _text(out), _text(err))

    return run


def _execute(module: str) -> int:
    """Run a module as `python -m` does; its exit status."""
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        if stop.code is None or isinstance(stop.code, int):
            return stop.code or 0
        print(stop.code, file=sys.stderr)
        return 1
    except Exception:  # what a process does with an error that nobody catches
        traceback.print_exc()
        return 1
    return 0


@contextlib.contextmanager
def _as_in_a_new_process(module: str, words: list[str]) -> Iterator[None]:
    """Give a command the arguments, environment, logging and warnings that a new process would have."""
    importlib.invalidate_caches()  # the test may have written a module a moment ago
    sys.argv = [module, *words]
    os.environ.update(ENVIRONMENT)
    logging.root.handlers = []  # else logging.basicConfig does nothing
    logging.root.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.resetwarnings()
        for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", category)
        # runpy's: the command's module has been imported by a test.
        warnings.filterwarnings("ignore", "'.*' found in sys.modules", RuntimeWarning)
        warnings.showwarning = _show_warning
        yield


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: IO[str] | None = None,
    line: str | None = None,
) -> None:
    (file or sys.stderr).write(warnings.formatwarning(message, category, filename, lineno, line))


@contextlib.contextmanager
def _as_found() -> Iterator[None]:
    """Put back behind a command what it may have changed in this process."""
    arguments, path, modules, environment = sys.argv, [*sys.path], set(sys.modules), dict(os.environ)
    root, handlers, level = logging.root, [*logging.root.handlers], logging.root.level
    terminate, interrupt = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    threads, dtype, python, numpy = (
        torch.get_num_threads(),
        torch.get_default_dtype(),
        random.getstate(),
        np.random.get_state(),
    )
    try:
        with torch.random.fork_rng():
            yield
    finally:
        sys.argv, sys.path[:] = arguments, path
        for name in set(sys.modules) - modules:
            # A network of the user's: another test may have another one of this name.
            if not _is_installed(getattr(sys.modules[name], "__file__", None)):
                del sys.modules[name]
        os.environ.clear()
        os.environ.update(environment)
        root.handlers = handlers
        root.setLevel(level)
        signal.signal(signal.SIGTERM, terminate)
        signal.signal(signal.SIGINT, interrupt)
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)
        random.setstate(python)
        np.random.set_state(numpy)


def _is_installed(file: str | None) -> bool:
    return (
        file is None
        or Path(file).is_relative_to(ROOT)
        or any(Path(file).is_relative_to(folder) for folder in LIBRARIES)
    )


LIBRARIES = {Path(module.__file__).parents[1] for module in (os, torch) if module.__file__}


@contextlib.contextmanager
def _streams(out: IO[bytes], err: IO[bytes]) -> Iterator[None]:
    """Let stdout and stderr of this process, of Python and of compiled code, write to files."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    try:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        with (
            io.TextIOWrapper(io.FileIO(os.dup(1), "w"), write_through=True) as stdout,
            io.TextIOWrapper(io.FileIO(os.dup(2), "w"), write_through=True) as stderr,
            contextlib.redirect_stdout(stdout),
            contextlib.redirect_stderr(stderr),
        ):
            yield
    finally:
        for number, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, number)
            os.close(copy)


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()
