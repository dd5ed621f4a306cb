"""The latency of a network's files next to float32, and next to onnxruntime's quantize_static."""

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

import codeq
from export.onnx.storage.kinds import Storage
from export.options import ACTIVATIONS, Activations
from runtime_tests.bench.baselines import export_bare, quantize_static
from runtime_tests.bench.latency import BenchResult, bench
from runtime_tests.matrix.zoo_file import LITERT, file_path

MLPERF_TINY = ("resnet8", "mobilenet_v1", "ds_cnn", "autoencoder")
TIMED: tuple[tuple[Activations, Storage], ...] = (("float32", "auto"), ("int8", "auto"), ("int8", "packed"))


@dataclass(frozen=True)
class ZooBench:
    """Holds what one interleaved run of a network's files gave; `quantize_static` is for those of MLPerf Tiny."""

    network: str
    rounds: int
    float32: BenchResult
    weight_only: BenchResult
    int8: BenchResult
    packed: BenchResult
    quantize_static: BenchResult | None
    litert: BenchResult | None = None
    litert_int8: BenchResult | None = None

    def of_quantize_static(self, ours: BenchResult) -> dict[str, float] | None:
        """A file's latency and bytes over those of onnxruntime's own quantization."""
        if self.quantize_static is None:
            return None
        return {
            "latency": ours.latency_ms / self.quantize_static.latency_ms,
            "bytes": ours.size_bytes / self.quantize_static.size_bytes,
        }

    def to_dict(self) -> dict[str, Any]:
        ratios = {name: self.of_quantize_static(getattr(self, name)) for name in ("int8", "packed")}
        return asdict(self) | {"of_quantize_static": ratios}


def bench_network(
    network: str,
    model: nn.Module,
    inputs: Tensor,
    folder: Path,
    *,
    rounds: int | None = None,
    threads: int = 1,
    on_progress: Callable[[float, str], None] = lambda share, detail: None,
) -> ZooBench:
    """Time a network's files next to float32, and where it is of MLPerf Tiny next to `quantize_static`.

    Args:
        network: Its name.
        model, inputs: From `zoo_network`.
        folder: Holds the files of `TIMED`, as `file_path` names them, and those for LiteRT where there are any.
        rounds: Timed runs per file; None takes as many as `bench` finds time for.
        threads: Threads within an operator.
        on_progress: As for `bench`.
    """
    paths = [folder / f"{network}-float32.onnx"]
    export_bare(codeq.detach(copy.deepcopy(model)), inputs, paths[0])
    paths += [file_path(folder, network, activations, storage) for activations, storage in TIMED]
    if network in MLPERF_TINY:
        paths.append(folder / f"{network}-quantize_static.onnx")
        quantize_static(paths[0], paths[-1], inputs)
    litert = [file_path(folder, network, activations, LITERT) for activations in ACTIVATIONS]
    paths += [path for path in litert if path.exists()]
    report = bench(paths, rounds=rounds, threads=threads, on_progress=on_progress)
    results = {Path(x.path): replace(x, path=Path(x.path).name) for x in report.results}
    float32, weight_only, int8, packed = (results[path] for path in paths[:4])
    return ZooBench(
        network,
        report.rounds,
        float32,
        weight_only,
        int8,
        packed,
        quantize_static=results.get(folder / f"{network}-quantize_static.onnx"),
        litert=results.get(litert[0]),
        litert_int8=results.get(litert[1]),
    )
