"""These clocks say how long a runtime computes the layer in a file of one layer, without what surrounds it there."""

import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from export.backend import backend_of
from export.runner import Runner
from runtime_tests.bench.inputs import random_inputs

Clock = Callable[[Path, int, int], list[float]]
"""Takes a file, the batch of its input and a number of runs, and gives what the layer took in each, in milliseconds."""
BORDERS = ("QuantizeLinear", "DequantizeLinear", "Transpose")
"""What onnxruntime puts around a single layer and not between those of a network."""
WARM_UP = 2


def onnxruntime_clock(options: Mapping[str, str], threads: int) -> Clock:
    """Give a clock that reads onnxruntime's own profile.

    Args:
        options: Session options by name: those of the network's file, whatever a layer's own says.
        threads: Threads within an operator.
    """

    def clock(path: Path, batch: int, times: int) -> list[float]:
        from export.onnx.runner import OnnxruntimeRunner
        from export.onnx.sessions import session_options

        runner = OnnxruntimeRunner(path, threads)
        with tempfile.TemporaryDirectory(prefix="codeq-") as folder:
            runner.options = session_options("enable_all", threads, options)
            runner.options.enable_profiling = True
            runner.options.profile_file_prefix = str(Path(folder) / "profile")
            runner.open()
            inputs = random_inputs(runner, batch)
            for _ in range(WARM_UP + times):
                runner.run(inputs)
            events = json.loads(Path(runner.session.end_profiling()).read_text())
        return sum_kernels(events)[WARM_UP:]

    return clock


def whole_clock(threads: int, empty: Path) -> Clock:
    """Give a clock that runs files whose inputs and outputs are codes, and takes off what a call takes with no work.

    Args:
        threads: Threads within an operator.
        empty: A file of one layer with next to nothing to do.
    """

    def run(path: Path, batch: int, times: int) -> list[float]:
        runner = backend_of(path).open_runner(path, threads=threads)
        runner.open()
        return time_runs(runner, random_inputs(runner, batch), times)

    def clock(path: Path, batch: int, times: int) -> list[float]:
        idle = statistics.median(run(empty, 1, times))
        return [max(taken - idle, 0.0) for taken in run(path, batch, times)]

    return clock


def time_runs(runner: Runner, inputs: Any, times: int) -> list[float]:
    """Run a file that was opened, and say what every run took, in milliseconds; the first ones do not count."""
    taken = []
    for _ in range(WARM_UP + times):
        start = time.perf_counter()
        runner.run(inputs)
        taken.append(1e3 * (time.perf_counter() - start))
    return taken[WARM_UP:]


def sum_kernels(events: list[dict[str, Any]]) -> list[float]:
    """Add up what the kernels of every run took, in milliseconds."""
    by_node: dict[str, list[float]] = defaultdict(list)
    for event in events:
        operator = event.get("args", {}).get("op_name")
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time") and operator not in BORDERS:
            by_node[event["name"]].append(1e-3 * event["dur"])
    return [sum(times) for times in zip(*by_node.values(), strict=True)]
