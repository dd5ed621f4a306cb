"""This module measures the peak memory of opening a file and running it once, in a process of its own: a peak never
comes down again.
"""

import json
import subprocess
import sys
from pathlib import Path

from codeq.toolkit.startup import child_environment
from codeq.toolkit.text import printable
from export.backend import BACKENDS, backend_of
from export.errors import ExportError
from runtime_tests.bench.inputs import random_inputs
from runtime_tests.bench.memory import peak_bytes, reset_peak
from runtime_tests.runners.registry import open_runner


def measure_in_a_process(path: Path, threads: int, batch: int) -> int:
    """Measure the bytes that a file takes, in a new process, which knows the backends of this one.

    Raises:
        ExportError: The process fails.
    """
    command = [sys.executable, "-m", "runtime_tests.bench", str(path), "--threads", str(threads), "--batch", str(batch)]
    command += [
        "--peak-memory",
        json.dumps({name: entry for name, entry in BACKENDS.items() if isinstance(entry, str)}),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=child_environment(), timeout=600)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise ExportError(f"{path}: its memory cannot be measured ({printable(lines[-1])})")
    return int(done.stdout)


def measure_here(path: Path, threads: int, batch: int, backends: str) -> int:
    """Measure the bytes that a file takes over what this process takes without it, its runtime loaded.

    Args:
        path: The file.
        threads: Threads within an operator.
        batch: Size of the open dimensions of its inputs.
        backends: `BACKENDS` of the process that asks, as JSON.
    """
    BACKENDS.update(json.loads(backends))
    backend_of(path).preload()
    backend_of(path).trust(path)
    before = reset_peak()
    runner = open_runner(path, threads=threads)
    runner.run(random_inputs(runner, batch))
    return max(0, peak_bytes() - before)
