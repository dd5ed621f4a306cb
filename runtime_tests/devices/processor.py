"""A processor runs on_device.py, or what does the same: this machine's, an emulated one, this one with some of its
instructions hidden, or a browser's.
"""

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from codeq.toolkit.text import printable
from export.backend import BACKENDS
from export.errors import ExportError

MAX_REASON = 300


class MissingError(ExportError):
    """Raised where a processor needs what cannot be had: an emulator, packages, or a feature of this machine."""


Launch = Callable[[Sequence[str], Mapping[str, str]], "subprocess.CompletedProcess[str]"]
"""Runs words with an environment and gives what they print and how they end."""


def launch_here(words: Sequence[str], environment: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run a program of this machine, with further variables in its environment."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS_")}
    return subprocess.run(words, env={**inherited, **environment}, capture_output=True, text=True, check=False)


@dataclass(frozen=True)
class Processor:
    """Describes a processor.

    Attributes:
        name: E.g. "cortex-a53".
        cpu: Its kind, as `export.reference.processors` names it.
        python: The words that start its Python.
        environment: Beside this process's.
        how: In a few words, e.g. "QEMU 7.2".
        macs: Multiply-adds that it can be asked for, all inputs of a network together: what takes some seconds.
        script: What runs there in place of on_device.py, where that is no Python.
        backends: Whose files it runs.
        launch: What runs its Python, where that is no program of this machine.
        missing: Why it cannot be had; empty where it can.
        begin: Lets it get ready, where that takes long; returns at once.
    """

    name: str
    cpu: str
    python: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    how: str = ""
    macs: int = 10**9
    script: Path | None = None
    backends: tuple[str, ...] = tuple(BACKENDS)
    launch: Launch = launch_here
    missing: str = ""
    begin: Callable[[], None] = lambda: None

    def run(self, script: Path, arguments: Sequence[str | Path]) -> str:
        """Run a script, and give what it prints.

        Raises:
            ExportError: It ends with an error.
        """
        environment = {"CODEQ_CPU": self.cpu, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **self.environment}
        words = [*self.python, str(self.script or script), *map(str, arguments)]
        done = self.launch(words, environment)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no word"]
            raise ExportError(
                f"{self.name}: {script.name} ended with {done.returncode}: {printable(lines[-1], MAX_REASON)}"
            )
        return done.stdout


def run_tool(
    words: Sequence[str | Path], what: str, *, folder: Path | None = None, environment: Mapping[str, str] | None = None
) -> str:
    """Run a program of the system for setting up, and give what it prints.

    Args:
        words: The program and its arguments.
        what: What it is for, for the message.
        folder: Where it runs.
        environment: Further variables for it.

    Raises:
        MissingError: It is not installed, or ends with an error.
    """
    try:
        variables = None if environment is None else os.environ | environment
        done = subprocess.run(
            [str(word) for word in words], cwd=folder, env=variables, capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise MissingError(f"{what} needs {words[0]}, which is not installed") from error
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()] or ["no word"]
        raise MissingError(f"{what} cannot be had: {words[0]} says {printable(lines[-1], MAX_REASON)}")
    return done.stdout
