"""Processes of Python that a test starts, waits for a word of, and kills as SIGKILL does: without any last word."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]


@contextmanager
def killed_at_last(program: str, word: str) -> Iterator[int]:
    """Start a program, wait until it prints a word, and kill it when the block ends; yields its number."""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == f"{word}\n"
            yield process.pid
        finally:
            process.kill()
