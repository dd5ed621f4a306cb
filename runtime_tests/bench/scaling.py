"""This module measures how the time and memory of an export grow with the network.

Networks of linear layers with random 4-bit codes, four fifths zeros, are exported one after the other, each in a
process of its own, parity included.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from codeq.errors import CodeqError
from codeq.quantizer.attach import quantized_weights
from codeq.toolkit.startup import child_environment
from codeq.toolkit.table import format_bytes, render_table
from export import export_onnx
from export.onnx.storage.kinds import Storage
from runtime_tests.bench.memory import peak_bytes
from runtime_tests.networks import wide_network


@dataclass(frozen=True)
class ExportGrowth:
    """Holds the figures of one size. `peak_memory_bytes` is of the whole process, PyTorch and the network included."""

    parameters: int
    seconds: float
    peak_memory_bytes: int
    size_bytes: int
    entropy_bytes: float


@dataclass(frozen=True)
class ScalingReport:
    """Holds all sizes, smallest first."""

    storage: Storage
    results: tuple[ExportGrowth, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        header = ("parameters", "export", "per million", "peak memory", "per parameter", "file", "of bound")
        rows = [
            (
                f"{result.parameters / 1e6:.1f} M",
                f"{result.seconds:.1f} s",
                f"{1e6 * result.seconds / result.parameters:.2f} s",
                format_bytes(result.peak_memory_bytes),
                f"{result.peak_memory_bytes / result.parameters:.1f} B",
                format_bytes(result.size_bytes),
                f"{result.size_bytes / result.entropy_bytes:.2f}",
            )
            for result in self.results
        ]
        return render_table(header, rows)


def measure_growth(
    millions: Sequence[int],
    storage: Storage,
    *,
    threads: int | None = None,
    on_progress: Callable[[float, str], None] = lambda share, detail: None,
) -> ScalingReport:
    """Export networks of several sizes, each in a process of its own.

    Args:
        millions: Million parameters of each.
        storage: As for `export_onnx`.
        threads: CPU threads of PyTorch; None leaves the choice to torch.
        on_progress: Called with the share done, 0 to 1, and what comes next.

    Raises:
        CodeqError: An export fails.
    """
    sizes = sorted(millions)
    results: list[ExportGrowth] = []
    for size in sizes:
        on_progress(sum(sizes[: len(results)]) / sum(sizes), f"{size} million parameters")
        results.append(_measure_in_a_process(size, storage, threads))
    return ScalingReport(storage, tuple(results))


def measure_export(parameters: int, storage: Storage) -> ExportGrowth:
    """Export one network here and now; the peak is that of this process since it began."""
    model, inputs = wide_network(parameters)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        report = export_onnx(model, (inputs,), Path(folder) / "model.onnx", storage=storage)
    seconds = time.perf_counter() - start
    count = sum(weight.original.numel() for weight in quantized_weights(model))
    return ExportGrowth(count, seconds, peak_bytes(), report.size_bytes, report.entropy_bytes)


def _measure_in_a_process(millions: int, storage: Storage, threads: int | None) -> ExportGrowth:
    command = [sys.executable, "-m", "runtime_tests.scaling", "--one", str(millions), "--storage", storage]
    command += [] if threads is None else ["--threads", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=child_environment())
    if done.returncode:
        raise CodeqError(f"the export of {millions} million parameters failed ({done.stderr.strip().splitlines()[-1]})")
    return ExportGrowth(**json.loads(done.stdout))
