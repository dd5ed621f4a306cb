"""What each kind of .tflite file costs and saves on one network: `python -m runtime_tests.tflite_modes resnet18`.

    float32         the network's quantized values as floats, BatchNorms folded by nobody
    weights         codes behind DEQUANTIZE, without their zeros where that is smaller; and with them, `weights-dense`
    int8            integer kernels, likewise; `int8-dense`
    hybrid          codes for layers of floats: approximate

Codes are drawn as runtime_tests/bench/storage.py draws them, at a given share of zeros. Files are held to their parity
contract and measured in one interleaved run.
"""

import argparse
import copy
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import codeq
import models
from codeq.toolkit import cli
from codeq.toolkit.table import format_bytes, render_table
from export.options import default_check
from export.tflite import export_tflite
from runtime_tests.bench.compare import sample_network
from runtime_tests.bench.latency import BenchReport, BenchResult, bench
from runtime_tests.bench.storage import SEED, draw_codes

MODES: Mapping[str, Mapping[str, Any]] = {
    "float32": {},
    "weights": {},
    "weights-dense": {"sparse": "off"},
    "int8": {"activations": "int8"},
    "int8-dense": {"activations": "int8", "sparse": "off"},
    "hybrid": {"hybrid": True},
}
"""Arguments of `export_tflite`; the first file is of the network without quantizers."""


@dataclass(frozen=True)
class Mode:
    """One file: its size over that of the dense int8 file, what its check said, and what was measured."""

    name: str
    size_over_dense: float
    parity: str
    bench: BenchResult


@dataclass(frozen=True)
class ModesReport:
    """All files of one network; `run` has the settings and versions of the run."""

    network: str
    zeros: float
    modes: tuple[Mode, ...]
    run: BenchReport

    def to_dict(self) -> dict[str, Any]:
        settings = {key: value for key, value in self.run.to_dict().items() if key != "files"}
        return asdict(self) | {"seed": SEED, "run": settings}

    def __str__(self) -> str:
        header = ("file", "size", "of dense int8", "latency", "speed-up", "opened in", "peak memory")
        rows = [
            (
                mode.name,
                format_bytes(mode.bench.size_bytes),
                f"{mode.size_over_dense:.3f}x",
                f"{mode.bench.latency_ms:.3f} ms",
                f"{mode.bench.speedup:.2f}x",
                f"{mode.bench.session_ms:.0f} ms",
                format_bytes(mode.bench.peak_memory_bytes),
            )
            for mode in self.modes
        ]
        lines = [f"{self.network}, {self.zeros:.0%} zeros", render_table(header, rows), str(self.run).splitlines()[-1]]
        return "\n".join([*lines, *(f"{mode.name}: {mode.parity}" for mode in self.modes)])


def measure_modes(
    network: str,
    zeros: float,
    folder: Path,
    *,
    threads: int = 1,
    seconds: float = 10.0,
    on_progress: Callable[[float, str], None] = lambda share, detail: None,
) -> ModesReport:
    """Write and measure every kind of file.

    Args:
        network: Of the registry.
        zeros: Share of zeros of every weight.
        folder: Where the files go; they stay there.
        threads, seconds: As for `bench`.
        on_progress: Called with the share done, 0 to 1, and what is going on.

    Raises:
        ExportError: LiteRT is not installed, or a file cannot be written.
        ParityError: A file does not compute what it should.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model, inputs = sample_network(network)
    draw_codes(model, zeros)
    held = inputs[: default_check(inputs.shape[1:])]
    paths, verdicts = [], []
    for index, (name, options) in enumerate(MODES.items()):
        on_progress(0.3 * index / len(MODES), name)
        path = folder / f"{network}-{name}.tflite"
        source = codeq.detach(copy.deepcopy(model)) if index == 0 else model
        report = export_tflite(
            source, (inputs[:2],), path, check_inputs=(held,), calibration=(inputs,), force=True, **options
        )
        paths.append(path)
        verdicts.append(report.verdict.summary)
    run = bench(
        paths,
        threads=threads,
        seconds=seconds,
        on_progress=lambda share, detail: on_progress(0.3 + 0.7 * share, detail),
    )
    dense = run.results[list(MODES).index("int8-dense")].size_bytes
    modes = tuple(
        Mode(name, result.size_bytes / dense, verdict, result)
        for name, verdict, result in zip(MODES, verdicts, run.results, strict=True)
    )
    return ModesReport(network, zeros, modes, run)


def _build_parser() -> argparse.ArgumentParser:
    parser = cli.build_parser(
        "runtime_tests.tflite_modes",
        "Write a network as every kind of .tflite file and measure them. Exit status: 0 done, 2 bad input.",
        "python -m runtime_tests.tflite_modes resnet18 --zeros 0.9",
    )
    names = ", ".join(models.MODELS)
    parser.add_argument("network", choices=list(models.MODELS), metavar="NETWORK", help=f"one of {names}")
    parser.add_argument("--zeros", type=cli.number(0, 1), default=0.9, help="share of zeros of every weight")
    parser.add_argument("--folder", type=Path, default=Path("bench"), help="where the files go")
    parser.add_argument("--threads", type=cli.integer(1, 1024), default=1, metavar="N", help="threads of an operator")
    parser.add_argument("--seconds", type=cli.number(0, 3600), default=10.0, help="about how long to time each file")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the measurements; - is stdout")
    parser.add_argument("--force", action="store_true", help="overwrite existing measurements")
    return parser


def main(argv: list[str] | None = None) -> int:
    """`python -m runtime_tests.tflite_modes`; see `--help`."""
    arguments = _build_parser().parse_args(argv)
    cli.check_json(arguments.json, force=arguments.force)
    torch.manual_seed(SEED)
    with cli.progress_bar(arguments.network, 1000) as update:
        report = measure_modes(
            arguments.network,
            arguments.zeros,
            arguments.folder,
            threads=arguments.threads,
            seconds=arguments.seconds,
            on_progress=lambda share, detail: update(int(1000 * share), detail),
        )
    cli.show_report(report, arguments.json)
    return 0
