"""This module times a network's files next to float32, and next to onnxruntime's quantize_static."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

import codeq
from runtime_tests.bench.baselines import export_bare, quantize_static
from runtime_tests.bench.latency import BenchResult, bench

MLPERF_TINY = ("resnet8", "mobilenet_v1", "ds_cnn", "autoencoder")


@dataclass(frozen=True)
class ZooBench:
    """Holds what one interleaved run of a network's files gave.

    Attributes:
        network: Its name.
        rounds: Timed runs of each file.
        float32: The file of torch's own float export.
        quantize_static: onnxruntime's own quantization of that, for the networks of MLPerf Tiny.
        files: Ours; paths are their names without the network's.
    """

    network: str
    rounds: int
    float32: BenchResult
    quantize_static: BenchResult | None
    files: tuple[BenchResult, ...]

    def of_quantize_static(self, ours: BenchResult) -> dict[str, float] | None:
        """Give a file's latency and bytes over those of onnxruntime's own quantization."""
        if self.quantize_static is None:
            return None
        return {
            "latency": ours.latency_ms / self.quantize_static.latency_ms,
            "bytes": ours.size_bytes / self.quantize_static.size_bytes,
        }

    def to_dict(self) -> dict[str, Any]:
        files = [asdict(file) | {"of_quantize_static": self.of_quantize_static(file)} for file in self.files]
        return asdict(self) | {"files": files}


def bench_network(
    network: str,
    model: nn.Module,
    inputs: Tensor,
    folder: Path,
    paths: Sequence[Path],
    *,
    rounds: int | None = None,
    threads: int = 1,
    on_progress: Callable[[float, str], None] = lambda share, detail: None,
) -> ZooBench:
    """Time a network's files next to float32, and where it is of MLPerf Tiny next to `quantize_static`.

    Args:
        network: Its name.
        model, inputs: From `zoo_network`.
        folder: Where the files to compare with go.
        paths: Ours, named by `Kind.path`.
        rounds: Timed runs per file; None takes as many as `bench` finds time for.
        threads: Threads within an operator.
        on_progress: As for `bench`.
    """
    float32 = folder / f"{network}-float32.onnx"
    export_bare(codeq.detach(copy.deepcopy(model)), inputs, float32)
    others = [float32]
    if network in MLPERF_TINY:
        others.append(folder / f"{network}-quantize_static.onnx")
        quantize_static(float32, others[-1], inputs)
    report = bench([*others, *paths], rounds=rounds, threads=threads, on_progress=on_progress)
    results = [replace(x, path=Path(x.path).name.removeprefix(f"{network}-")) for x in report.results]
    return ZooBench(
        network,
        report.rounds,
        float32=results[0],
        quantize_static=results[1] if len(others) > 1 else None,
        files=tuple(results[len(others) :]),
    )
