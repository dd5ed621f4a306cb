"""How an export grows with the network: `python -m runtime_tests.scaling`.

Networks of 2048 x 2048 linear layers with random 4-bit codes, four fifths zeros, are exported one after the other, each
in a process of its own, parity included.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

import codeq
from codeq.errors import CodeqError
from codeq.quantizer.attach import quantized_weights
from codeq.toolkit import cli
from codeq.toolkit.table import format_bytes, render_table
from export import export_onnx
from export.onnx.storage.plan import STORAGES, Storage
from runtime_tests.bench.compare import THETA
from runtime_tests.bench.memory import peak_bytes

WIDTH = 2048
MILLIONS = (50, 100, 200)


@dataclass(frozen=True)
class ExportGrowth:
    """One size. `peak_memory_bytes` is of the whole process, PyTorch and the network included."""

    parameters: int
    seconds: float
    peak_memory_bytes: int
    size_bytes: int
    entropy_bytes: float


@dataclass(frozen=True)
class ScalingReport:
    """All sizes, smallest first."""

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


def measure_export(parameters: int, storage: Storage) -> ExportGrowth:
    """Export one network here and now; the peak is that of this process since it began."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(max(1, round(parameters / WIDTH**2))):
        layers += [nn.Linear(WIDTH, WIDTH), nn.ReLU()]
    model = nn.Sequential(*layers)
    codeq.attach(model, bits=4)
    inputs = torch.randn(2, WIDTH)
    with torch.no_grad():
        for weight in quantized_weights(model):
            weight.quantizer.theta_dz.fill_(THETA)
    codeq.freeze(model)
    model.eval()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        report = export_onnx(model, (inputs,), Path(folder) / "model.onnx", storage=storage)
    seconds = time.perf_counter() - start
    count = sum(weight.original.numel() for weight in quantized_weights(model))
    return ExportGrowth(count, seconds, peak_bytes(), report.size_bytes, report.entropy_bytes)


def _measure_in_a_process(millions: int, storage: Storage) -> ExportGrowth:
    command = [sys.executable, "-m", "runtime_tests.scaling", "--one", str(millions), "--storage", storage]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CodeqError(f"the export of {millions} million parameters failed ({done.stderr.strip().splitlines()[-1]})")
    return ExportGrowth(**json.loads(done.stdout))


def _build_parser() -> argparse.ArgumentParser:
    parser = cli.build_parser(
        "runtime_tests.scaling",
        "Export networks of several sizes, each in a process of its own; show time and memory per parameter. "
        "Exit status: 0 done, 2 bad input.",
        "python -m runtime_tests.scaling --millions 50 --millions 100",
    )
    parser.add_argument(
        "--millions",
        type=cli.integer(1),
        action="append",
        metavar="N",
        help=f"million parameters (default: {MILLIONS})",
    )
    parser.add_argument("--storage", choices=STORAGES, default="packed", help="of the files")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the measurements; - is stdout")
    parser.add_argument("--force", action="store_true", help="overwrite existing measurements")
    parser.add_argument("--one", type=cli.integer(1), help=argparse.SUPPRESS)
    return parser


def main(argv: list[str] | None = None) -> int:
    """`python -m runtime_tests.scaling`; see `--help`."""
    arguments = _build_parser().parse_args(argv)
    if arguments.one is not None:
        print(json.dumps(asdict(measure_export(arguments.one * 1_000_000, arguments.storage))))
        return 0
    cli.check_json(arguments.json, force=arguments.force)
    sizes = sorted(arguments.millions or MILLIONS)
    results: list[ExportGrowth] = []
    with cli.progress_bar("scaling", sum(sizes)) as update:
        for size in sizes:
            update(sum(sizes[: len(results)]), f"{size} million parameters")
            results.append(_measure_in_a_process(size, arguments.storage))
    report = ScalingReport(arguments.storage, tuple(results))
    cli.show_report(report, arguments.json)
    return 0
