"""This module makes four files of one network and measures them side by side.

    float32            torch.onnx.export of the network with its quantized values
    weights            our file with float32 activations
    int8               our file with uint8 activations
    quantize_static    onnxruntime's own post-training quantization of the float32 file, from the same calibration
                       inputs (runtime_tests/bench/baselines.py)

Weights are random, four bits, about four fifths zeros: latency does not depend on their values. Export time and memory
are taken in processes of their own, torch's bare exporter and ours, one after the other.
"""

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import codeq
import models
from codeq.toolkit.table import format_bytes, render_table
from export import export_onnx
from export.options import ACTIVATIONS, default_check
from runtime_tests.bench.baselines import export_bare, quantize_static
from runtime_tests.bench.export_cost import ExportCost, measure_exports
from runtime_tests.bench.latency import BenchReport, bench
from runtime_tests.networks import sample_network


@dataclass(frozen=True)
class FourFilesReport:
    """Holds what one run measured: four files, and the exports of two of them."""

    network: str
    weight_bytes: int
    bench: BenchReport
    bare_export: ExportCost
    our_export: ExportCost

    def to_dict(self) -> dict[str, Any]:
        """Give everything with plain types."""
        exports = {"bare": asdict(self.bare_export), "ours": asdict(self.our_export)}
        return {"network": self.network, "weight_bytes": self.weight_bytes} | self.bench.to_dict() | {"export": exports}

    def __str__(self) -> str:
        bare, ours = self.bare_export, self.our_export
        rows = [
            (name, f"{cost.seconds:.1f} s", format_bytes(cost.peak_memory_bytes))
            for name, cost in (("torch.onnx.export, float32", bare), ("export_onnx, int8, parity included", ours))
        ]
        weights = format_bytes(self.weight_bytes)
        more = (ours.peak_memory_bytes - bare.peak_memory_bytes) / self.weight_bytes
        return "\n".join(
            [
                str(self.bench),
                "",
                render_table(("export", "time", "peak memory"), rows),
                f"time {ours.seconds / bare.seconds:.2f}x, memory {more:+.1f}x the weights ({weights})",
            ]
        )


def measure_four_files(
    name: str,
    folder: Path,
    *,
    threads: int = 1,
    seconds: float = 10.0,
    on_progress: Callable[[float, str], None] = lambda share, detail: None,
) -> FourFilesReport:
    """Build and measure everything.

    Args:
        name: Of the registry.
        folder: Where the files go; they stay there.
        threads, seconds: As for `bench`.
        on_progress: Called with the share done, 0 to 1, and what is going on.

    Raises:
        CodeqError: An export that failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = build_files(name, folder, lambda detail: on_progress(0.1, f"building {detail}"))
    report = bench(
        paths,
        threads=threads,
        seconds=seconds,
        on_progress=lambda share, detail: on_progress(0.3 + 0.3 * share, detail),
    )
    bare, ours = measure_exports(name, folder, lambda share, detail: on_progress(0.6 + 0.4 * share, detail))
    weights = 4 * sum(parameter.numel() for parameter in models.create(name).parameters())
    return FourFilesReport(name, weights, report, bare, ours)


def build_files(name: str, folder: Path, on_progress: Callable[[str], None] = lambda detail: None) -> list[Path]:
    """Write the four files of a network; float32 first."""
    model, inputs = sample_network(name)
    paths = [folder / f"{name}-{kind}.onnx" for kind in ("float32", "weights", "int8", "quantize_static")]
    on_progress("float32")
    export_bare(codeq.detach(copy.deepcopy(model)), inputs, paths[0])
    held = inputs[: default_check(inputs[0].numel())]
    for path, activations in zip(paths[1:3], ACTIVATIONS, strict=True):
        on_progress(path.stem)
        export_onnx(
            model,
            (inputs[:2],),
            path,
            force=True,
            check_inputs=(held,),
            activations=activations,
            calibration=inputs,
        )
    on_progress(paths[3].stem)
    quantize_static(paths[0], paths[3], inputs)
    return paths
