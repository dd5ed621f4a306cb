"""What each storage costs and saves on one network: `python -m runtime_tests.storage resnet18`.

Codes are drawn, at a given share of zeros, with the magnitudes that training gave (LEVEL_COUNTS), and put into the
network, which is then exported in every storage, parity included. Bytes are compared with the entropy bound; session
creation, peak memory and latency are measured side by side in one interleaved run.
"""

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import models
from codeq.quantizer.attach import quantized_weights
from codeq.toolkit import cli
from codeq.toolkit.table import format_bytes, format_ratio, render_table
from export import export_onnx
from export.onnx.storage.plan import STORAGES, Storage
from export.program.prepare import ACTIVATIONS, Activations
from runtime_tests.bench.compare import sample_network
from runtime_tests.bench.latency import BenchResult, bench

LEVEL_COUNTS = (0.3155, 0.1838, 0.1364, 0.0994, 0.0729, 0.0504, 0.1415)
"""Shares of the magnitudes 1 to 7 among the non-zeros of docs/results/2026-11-22-fashion-mnist-resnet20: 4 bits, 5
epochs, 91 % zeros, all 20 weights together. The last one holds what saturates."""
ZEROS = (0.5, 0.8, 0.9, 0.95)
SEED = 0
COMPARED: tuple[Storage, ...] = ("dense", "sparse", "packed", "smallest")


@dataclass(frozen=True)
class StorageResult:
    """One file. Ratios are against the entropy bound of its codes, and against the dense file of the same codes."""

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
    """All files of one network. `largest_weight` counts its codes."""

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


@torch.no_grad()
def draw_codes(model: nn.Module, zeros: float | Mapping[str, float]) -> None:
    """Give every quantized weight of a frozen network levels drawn at random, in place.

    Args:
        model: From `sample_network`; at 4 bits, where there are seven magnitudes.
        zeros: Share of zeros, the same for every weight or by the weight's name.
    """
    generator = torch.Generator().manual_seed(SEED)
    shares = torch.tensor(LEVEL_COUNTS)
    for weight in quantized_weights(model):
        count = weight.original.numel()
        encoding = weight.quantizer.encode(weight.original)
        level = 1 + torch.multinomial(shares[: encoding.quant_max], count, replacement=True, generator=generator)
        codes = encoding.multiplier * level + encoding.offset
        codes = codes * (2 * torch.randint(2, (count,), generator=generator) - 1)
        share = zeros[weight.name] if isinstance(zeros, Mapping) else zeros
        codes = codes * (torch.rand(count, generator=generator) >= share)
        weight.original.copy_((codes.float() * encoding.scale).reshape(weight.original.shape))


def measure_storage(
    name: str,
    zeros: Sequence[float],
    storages: Sequence[Storage],
    activations: Activations,
    *,
    seconds: float,
    threads: int,
    on_progress: Callable[[str], None] = lambda detail: None,
) -> StorageReport:
    """Export and measure one network; "dense" is added where it is missing.

    Args:
        name: Of the registry.
        zeros: Shares of zeros.
        storages, activations: As for `export_onnx`.
        seconds: For latency, per file.
        threads: Of an operator.
    """
    model, inputs = sample_network(name)
    names: list[Storage] = list(dict.fromkeys(["dense", *storages]))
    results: list[StorageResult] = []
    for share in zeros:
        draw_codes(model, share)
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder) / f"{storage}.onnx" for storage in names]
            reports = []
            for storage, path in zip(names, paths, strict=True):
                on_progress(f"{share:.0%} zeros, {storage}")
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
                    transient_bytes=report.transient_bytes,
                    bench=replace(result, path=Path(result.path).name),
                )
            )
    largest = max(weight.original.numel() for weight in quantized_weights(model))
    return StorageReport(name, activations, largest, tuple(results))


def _export(model: nn.Module, inputs: Tensor, path: Path, storage: Storage, activations: Activations) -> Any:
    return export_onnx(
        model,
        (inputs[:2],),
        path,
        storage=storage,
        activations=activations,
        calibration=inputs if activations == "int8" else None,
        check_inputs=(inputs[:1],),
    )


def _build_parser() -> argparse.ArgumentParser:
    parser = cli.build_parser(
        "runtime_tests.storage",
        "Export a network with drawn codes in every storage; compare bytes, session creation, memory and latency. "
        "Exit status: 0 done, 2 bad input.",
        "python -m runtime_tests.storage resnet18 --zeros 0.5 --zeros 0.9",
    )
    parser.add_argument(
        "network", nargs="?", choices=list(models.MODELS), default="resnet18", help="network of the registry"
    )
    parser.add_argument(
        "--zeros", type=cli.number(0, 0.999), action="append", help=f"share of zeros (default: {ZEROS})"
    )
    parser.add_argument("--storage", choices=STORAGES, action="append", help=f"storages (default: {COMPARED})")
    parser.add_argument("--activations", choices=ACTIVATIONS, default="float32", help="of the files")
    parser.add_argument("--threads", type=cli.integer(1, 1024), default=1, metavar="N", help="threads of an operator")
    parser.add_argument("--seconds", type=cli.number(0, 3600), default=3.0, help="about how long to time each file")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the measurements; - is stdout")
    parser.add_argument("--force", action="store_true", help="overwrite existing measurements")
    return parser


def main(argv: list[str] | None = None) -> int:
    """`python -m runtime_tests.storage`; see `--help`."""
    arguments = _build_parser().parse_args(argv)
    cli.check_json(arguments.json, force=arguments.force)
    zeros, storages = arguments.zeros or ZEROS, arguments.storage or COMPARED
    total = len(zeros) * len({"dense", *storages})
    numbers = iter(range(total))
    with cli.progress_bar("storage", total) as update:
        report = measure_storage(
            arguments.network,
            zeros,
            storages,
            arguments.activations,
            seconds=arguments.seconds,
            threads=arguments.threads,
            on_progress=lambda detail: update(next(numbers), detail),
        )
    cli.show_report(report, arguments.json)
    return 0
