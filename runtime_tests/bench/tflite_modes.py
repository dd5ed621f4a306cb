"""This module measures what each kind of .tflite file costs and saves on one network.

    float32         the network's quantized values as floats; no BatchNorm is folded
    weights         codes behind DEQUANTIZE, without their zeros where that is smaller; and with them, `weights-dense`
    int8            integer kernels, likewise; `int8-dense`
    hybrid          codes for layers of floats: approximate

Codes are drawn as runtime_tests/networks.py draws them, at a given share of zeros. Files are held to their parity
contract and measured in one interleaved run.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import codeq
from codeq.toolkit.table import fold_line, format_bytes, render_table
from export.options import default_check
from export.tflite import export_tflite
from runtime_tests.bench.latency import BenchReport, BenchResult, bench
from runtime_tests.networks import SEED, draw_codes, sample_network

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
    """Holds one file: its size over that of the dense int8 file, what its check said, and what was measured."""

    name: str
    size_over_dense: float
    parity: str
    bench: BenchResult


@dataclass(frozen=True)
class ModesReport:
    """Holds all files of one network; `run` has the settings and versions of the run."""

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
        lines = [
            f"{self.network}, {self.zeros:.0%} zeros",
            render_table(header, rows),
            fold_line(self.run.conditions, 2),
        ]
        return "\n".join([*lines, *(fold_line(f"{mode.name}: {mode.parity}", 2) for mode in self.modes)])


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
    held = inputs[: default_check(inputs[0].numel())]
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
