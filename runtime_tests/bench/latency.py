"""This module measures latency, memory and size of files side by side.

Machines are shared and noisy, so files are run in turn (a, b, a, b, ...) and compared by medians and their ratios. Any
ONNX file that onnxruntime opens will do, and any .tflite file that LiteRT opens; an ONNX file of ours is opened with
the session options that it carries, a .tflite file is resized to the batch. All take the same inputs, a file of ours
with channels last in its order, and as many threads. A file over which its runtime could crash is opened, and run
once on the same inputs, in a process of its own before.
"""

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from codeq.errors import first_line
from codeq.toolkit.table import fold_line, format_bytes, format_count, render_table
from export.backend import backend_of, file_bytes
from export.errors import ExportError
from export.runner import Runner
from runtime_tests.bench.file_memory import measure_in_a_process
from runtime_tests.bench.inputs import random_inputs
from runtime_tests.options import BENCH_SECONDS

WARM_UP = 3
MIN_ROUNDS = 10
MAX_ROUNDS = 2000
SESSIONS = 7
"""How often a session of each file is created, in turn; the median counts."""


@dataclass(frozen=True)
class BenchResult:
    """Holds the figures of one file. Times are in milliseconds, `backend` is its name in `export.backend.BACKENDS`.

    `peak_memory_bytes` is of a process that opens the file and runs it once, over what the process takes without it;
    `speedup` is the first file's latency over this one's.
    """

    path: str
    backend: str
    size_bytes: int
    latency_ms: float
    latency_p10_ms: float
    latency_p90_ms: float
    speedup: float
    session_ms: float
    peak_memory_bytes: int


@dataclass(frozen=True)
class BenchReport:
    """Holds all files of one interleaved run. `versions` are those of the runtimes."""

    results: tuple[BenchResult, ...]
    threads: int
    batch: int
    rounds: int
    versions: Mapping[str, str]

    @property
    def conditions(self) -> str:
        """Say how it was measured: batch, threads, runs and runtimes."""
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        threads = format_count(self.threads, "thread")
        return f"batch {self.batch}, {threads}, medians of {self.rounds} interleaved runs, {versions}"

    def to_dict(self) -> dict[str, Any]:
        settings = {"threads": self.threads, "batch": self.batch, "rounds": self.rounds}
        versions = {**self.versions, "machine": platform.machine()}
        return {"files": [asdict(result) for result in self.results]} | settings | {"versions": versions}

    def __str__(self) -> str:
        header = ("file", "size", "latency", "p10 to p90", "speed-up", "session", "peak memory")
        names = _short_names([result.path for result in self.results])
        rows = [
            (
                name,
                format_bytes(result.size_bytes),
                f"{result.latency_ms:.3f} ms",
                f"{result.latency_p10_ms:.2f} to {result.latency_p90_ms:.2f}",
                f"{result.speedup:.2f}x",
                f"{result.session_ms:.0f} ms",
                format_bytes(result.peak_memory_bytes),
            )
            for name, result in zip(names, self.results, strict=True)
        ]
        return f"{render_table(header, rows)}\n{fold_line(self.conditions, 2)}"


def bench(
    paths: list[Path],
    *,
    threads: int = 1,
    batch: int = 1,
    seconds: float = BENCH_SECONDS,
    rounds: int | None = None,
    on_progress: Callable[[float, str], None] = lambda share, detail: None,
) -> BenchReport:
    """Measure files in turn.

    Args:
        paths: ONNX and .tflite files with the same inputs.
        threads: Threads within an operator.
        batch: Size of the open dimensions of the inputs.
        seconds: About how long the timed runs take per file; at least MIN_ROUNDS runs each.
        rounds: Timed runs of each file, instead of `seconds`.
        on_progress: Called with the share done, 0 to 1, and what is going on.

    Raises:
        ExportError: A file is missing, cannot be opened, or takes other inputs than the first.
    """
    on_progress(0.0, "opening")
    for path in paths:
        backend_of(path).try_out(path, lambda runner: runner.run(random_inputs(runner, batch)), threads=threads)
    opened: list[list[float]] = [[] for _ in paths]
    for _ in range(SESSIONS):
        runners = []
        for times, path in zip(opened, paths, strict=True):
            runner = backend_of(path).open_runner(path, threads=threads)
            start = time.perf_counter()
            runner.open()
            times.append(1e3 * (time.perf_counter() - start))
            runners.append(runner)
    session_ms = [statistics.median(times) for times in opened]
    shapes = [[slot.at_batch(batch) for slot in runner.inputs] for runner in runners]
    for path, found in zip(paths, shapes, strict=True):
        if found != shapes[0]:
            raise ExportError(f"{path}: takes other inputs than {paths[0]}; measure it by itself")

    timed = [(runner, random_inputs(runner, batch), path) for runner, path in zip(runners, paths, strict=True)]
    first = [_time(*item) for item in timed]
    for runner, inputs, _ in timed:
        for _ in range(WARM_UP):
            runner.run(inputs)
    if rounds is None:
        rounds = min(MAX_ROUNDS, max(MIN_ROUNDS, int(seconds * len(paths) / sum(first))))
    latencies: list[list[float]] = [[] for _ in paths]
    for done in range(rounds):
        for times, item in zip(latencies, timed, strict=True):
            times.append(1e3 * _time(*item))
        on_progress((done + 1) / rounds, f"{rounds} rounds")

    medians = [statistics.median(times) for times in latencies]
    results = tuple(
        BenchResult(
            path=str(path),
            backend=backend_of(path).name,
            size_bytes=file_bytes(path),
            latency_ms=median,
            latency_p10_ms=float(np.percentile(times, 10)),
            latency_p90_ms=float(np.percentile(times, 90)),
            speedup=medians[0] / median,
            session_ms=session,
            peak_memory_bytes=measure_in_a_process(path, threads, batch),
        )
        for path, median, times, session in zip(paths, medians, latencies, session_ms, strict=True)
    )
    versions = {runner.runtime: runner.version for runner in runners}
    return BenchReport(results, threads, batch, rounds, versions)


def _time(runner: Runner, inputs: Any, path: Path) -> float:
    start = time.perf_counter()
    try:
        runner.run(inputs)
    except Exception as error:  # exceptions of the runtimes share no public base class
        shapes = ", ".join(str(slot.shape) for slot in runner.inputs)
        raise ExportError(f"{path}: does not run on inputs {shapes} ({first_line(error)}); try --batch") from error
    return time.perf_counter() - start


def _short_names(paths: list[str]) -> list[str]:
    names = [Path(path).name for path in paths]
    return names if len(set(names)) == len(names) else paths
