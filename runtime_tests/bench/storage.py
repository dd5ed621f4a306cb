"""This module measures what each storage of an ONNX file costs and saves on one network.

Codes are drawn, at a given share of zeros, with the magnitudes that training gave (runtime_tests/networks.py), and put
into the network, which is then exported in every storage, parity included. Bytes are compared with the entropy bound;
session creation, peak memory and latency are measured side by side in one interleaved run.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from codeq.quantizer.attach import quantized_weights
from codeq.toolkit.table import format_bytes, format_ratio, render_table
from export import export_onnx
from export.onnx.details import OnnxDetails
from export.onnx.storage.kinds import Storage
from export.options import Activations
from export.report import Report
from runtime_tests.bench.latency import BenchResult, bench
from runtime_tests.networks import LEVEL_COUNTS, SEED, draw_codes, sample_network


@dataclass(frozen=True)
class StorageResult:
    """Holds the figures of one file.

    Ratios are against the entropy bound of its codes, and against the dense file of the same codes.
    """

    zeros: float
    storage: Storage
    entropy_bytes: float
    size_over_bound: float
    session_over_dense: float
    latency_over_dense: float
    memory_over_dense_bytes: int
    transient_bytes: int
    bench: BenchResult


@dataclass(frozen=True)
class StorageReport:
    """Holds all files of one network. `largest_weight` counts its codes."""

    network: str
    activations: Activations
    largest_weight: int
    results: tuple[StorageResult, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"seed": SEED, "level_counts": LEVEL_COUNTS}

    def __str__(self) -> str:
        header = (
            "zeros",
            "storage",
            "file",
            "bound",
            "ratio",
            "session",
            "of dense",
            "peak memory",
            "latency of dense",
        )
        rows = [
            (
                f"{result.zeros:.0%}",
                result.storage,
                format_bytes(result.bench.size_bytes),
                format_bytes(result.entropy_bytes),
                format_ratio(result.bench.size_bytes, result.entropy_bytes),
                f"{result.bench.session_ms:.0f} ms",
                f"{result.session_over_dense:.2f}x",
                format_bytes(result.bench.peak_memory_bytes),
                f"{result.latency_over_dense:.3f}",
            )
            for result in self.results
        ]
        return f"{self.network}, {self.activations} activations\n{render_table(header, rows)}"


def measure_storage(
    name: str,
    zeros: Sequence[float],
    storages: Sequence[Storage],
    activations: Activations,
    *,
    seconds: float,
    threads: int,
    on_progress: Callable[[float, str], None] = lambda share, detail: None,
) -> StorageReport:
    """Export and measure one network; "dense" is added where it is missing.

    Args:
        name: Of the registry.
        zeros: Shares of zeros.
        storages, activations: As for `export_onnx`.
        seconds: For latency, per file.
        threads: Of an operator.
        on_progress: Called with the share done, 0 to 1, and what comes next.
    """
    model, inputs = sample_network(name)
    names: list[Storage] = list(dict.fromkeys(["dense", *storages]))
    results: list[StorageResult] = []
    for number, share in enumerate(zeros):
        draw_codes(model, share)
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder) / f"{storage}.onnx" for storage in names]
            reports = []
            for done, (storage, path) in enumerate(zip(names, paths, strict=True), number * len(names)):
                on_progress(done / (len(zeros) * len(names)), f"{share:.0%} zeros, {storage}")
                reports.append(_export(model, inputs, path, storage, activations))
            measured = bench(paths, seconds=seconds, threads=threads).results
        dense = measured[0]
        for storage, report, result in zip(names, reports, measured, strict=True):
            results.append(
                StorageResult(
                    zeros=share,
                    storage=storage,
                    entropy_bytes=report.entropy_bytes,
                    size_over_bound=result.size_bytes / report.entropy_bytes,
                    session_over_dense=result.session_ms / dense.session_ms,
                    latency_over_dense=result.latency_ms / dense.latency_ms,
                    memory_over_dense_bytes=result.peak_memory_bytes - dense.peak_memory_bytes,
                    transient_bytes=report.details.transient_bytes,
                    bench=replace(result, path=Path(result.path).name),
                )
            )
    largest = max(weight.original.numel() for weight in quantized_weights(model))
    return StorageReport(name, activations, largest, tuple(results))


def _export(
    model: nn.Module, inputs: Tensor, path: Path, storage: Storage, activations: Activations
) -> Report[OnnxDetails]:
    return export_onnx(
        model,
        (inputs[:2],),
        path,
        storage=storage,
        activations=activations,
        calibration=inputs if activations == "int8" else None,
        check_inputs=(inputs[:1],),
    )
