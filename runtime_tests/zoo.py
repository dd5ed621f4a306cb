"""Every network of the registry as files, each held to the parity contract: `python -m runtime_tests.zoo`.

Weights are random: 4-bit codes, four fifths of them zeros, with the magnitudes that training gives
(runtime_tests/bench/storage.py), and fewer zeros where a channel has few weights; BatchNorm statistics are those of
random inputs. Each network is exported with float32 and with int8 activations, in three storages, and where LiteRT is
installed as .tflite files. With `--bench` its files are timed next to torch's own float32 export, and those of MLPerf
Tiny next to onnxruntime's `quantize_static` of that (runtime_tests/bench/compare.py).
"""

import argparse
import copy
import platform
import tempfile
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import onnx
import onnxruntime as ort
import torch
from export.parity.report import Report
from export.tflite.report import TfliteReport
from torch import Tensor, nn

import codeq
import models
from codeq.errors import CodeqError
from codeq.quantizer.attach import quantized_weights
from codeq.toolkit import cli
from codeq.toolkit.table import format_bytes, render_table
from export import export_onnx
from export.errors import DeclinedError, ParityError
from export.onnx.storage.plan import Storage
from export.onnx.verify import Verdict
from export.options import default_check
from export.program.prepare import ACTIVATIONS, Activations
from export.tflite import export_tflite
from export.tflite.verify import TfliteVerdict
from runtime_tests.bench.compare import export_bare, quantize_static, sample_network
from runtime_tests.bench.latency import BenchResult, bench
from runtime_tests.bench.storage import draw_codes
from runtime_tests.runners import installed

ZEROS = 0.8
FEW_INPUTS, ZEROS_OF_FEW = 64, 0.5
"""A weight with fewer inputs to a channel keeps more of them, as in training: of nine weights of a depthwise channel
all are zeros in one channel of seven at 80 %, in one of 500 at 50 %."""
STORAGES: tuple[Storage, ...] = ("auto", "sparse", "packed")
LITERT: Literal["litert"] = "litert"
"""Stands among storages for a .tflite file."""
MLPERF_TINY = ("resnet8", "mobilenet_v1", "ds_cnn", "autoencoder")
BATCHES, BATCH_SIZE = 4, 8
"""Random inputs that BatchNorm takes its statistics from."""
SHIFT = 1.0
"""Of BatchNorms, in deviations of their output: most of each relu is open. A relu at 0 passes half of the square of a
difference and 0.34 of the variance, which the next BatchNorm restores: a random network would amplify differences by
1.2 per layer, until float32 sums in another order differ by more than the contract's 1e-5 within PyTorch alone. Trained
networks do not; with this shift, random ones do so by 1.06."""
SEED = 0
MODES: Mapping[Activations, str] = {"float32": "weight-only", "int8": "int8"}
TIMED: tuple[tuple[Activations, Storage], ...] = (("float32", "auto"), ("int8", "auto"), ("int8", "packed"))


@dataclass(frozen=True)
class ZooFile:
    """One export. `failure` is empty where parity holds; a file that was not written has no bytes. The storage "litert"
    is a .tflite file; `refused` says why there is none where the export declines the network.

    `float32_bytes` is the network's parameters and buffers at 4 bytes each; layers are those that could compute in
    integers and do, or do not; with float32 activations none is counted.
    """

    network: str
    activations: Activations
    storage: Storage | Literal["litert"]
    size_bytes: int | None
    float32_bytes: int | None
    sparsity: float | None
    integer_layers: int
    float_layers: int
    kernels: tuple[str, ...]
    skipped_folds: dict[str, str]
    parity: str
    failure: str
    refused: str = ""


@dataclass(frozen=True)
class ZooBench:
    """One network's files in one interleaved run; `quantize_static` for those of MLPerf Tiny. Ratios are of medians."""

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


@dataclass(frozen=True)
class ZooReport:
    """All files, and what was timed."""

    files: tuple[ZooFile, ...]
    benches: tuple[ZooBench, ...]

    @property
    def ok(self) -> bool:
        """Whether parity holds for every file."""
        return not any(file.failure for file in self.files)

    def to_dict(self) -> dict[str, Any]:
        versions = {"torch": str(torch.__version__), "onnxruntime": ort.__version__, "onnx": onnx.__version__}
        return {
            "seed": SEED,
            "zeros": ZEROS,
            "ok": self.ok,
            "files": [asdict(file) for file in self.files],
            "bench": [item.to_dict() for item in self.benches],
            "versions": versions | {"machine": platform.machine()},
        }

    def __str__(self) -> str:
        parts = [self._files(), *([self._benches()] if self.benches else [])]
        if any(item.litert for item in self.benches):
            parts.append(self._litert())
        return "\n\n".join(parts)

    def _files(self) -> str:
        header = ("network", "mode", "storage", "bytes", "of float32", "kernels", "parity")
        rows = [
            (
                file.network,
                MODES[file.activations],
                file.storage,
                "" if file.size_bytes is None else format_bytes(file.size_bytes),
                ""
                if file.size_bytes is None or not file.float32_bytes
                else f"{file.size_bytes / file.float32_bytes:.1%}",
                f"{file.integer_layers} / {file.float_layers}" if file.activations == "int8" else "float",
                "refused" if file.refused else "FAILED" if file.failure else f"{file.parity}: ok",
            )
            for file in self.files
        ]
        told = [file for file in self.files if file.failure or file.refused]
        lines = [render_table(header, rows)]
        for file in told:
            text = f"{file.network}, {MODES[file.activations]}, {file.storage}: {file.failure or file.refused}"
            lines += textwrap.wrap(text, 100, subsequent_indent="  ")
        refused = sum(bool(file.refused) for file in self.files)
        written = len(self.files) - refused
        held = sum(not file.failure and not file.refused for file in self.files)
        lines.append(f"parity holds for {held} of {written} files; kernels: layers in integers / in float")
        if refused:
            lines.append(f"refused by the export: {refused}")
        return "\n".join(lines)

    def _benches(self) -> str:
        header = (
            "network",
            "float32",
            "weights",
            "int8",
            "packed",
            "speed-up",
            "static",
            "its time",
            "its bytes",
            "packed",
        )
        rows = []
        for item in self.benches:
            results = (item.float32, item.weight_only, item.int8, item.packed)
            static, int8, packed = item.quantize_static, *map(item.of_quantize_static, (item.int8, item.packed))
            rows.append(
                (
                    item.network,
                    *(f"{result.latency_ms:.3f}" for result in results),
                    f"{item.float32.latency_ms / item.int8.latency_ms:.2f}x",
                    f"{static.latency_ms:.3f}" if static else "",
                    f"{int8['latency']:.2f}" if int8 else "",
                    f"{int8['bytes']:.2f}" if int8 else "",
                    f"{packed['bytes']:.2f}" if packed else "",
                )
            )
        rounds = ", ".join(f"{item.network} {item.rounds}" for item in self.benches)
        return "\n".join(
            [
                render_table(header, rows),
                f"medians in ms, batch 1, 1 thread, onnxruntime {ort.__version__}; weights: activations in float32",
                "static: onnxruntime's quantize_static; then int8's time and bytes, and packed int8's bytes, over its",
                *textwrap.wrap(f"interleaved runs: {rounds}", 100),
            ]
        )

    def _litert(self) -> str:
        header = (
            "network",
            "float32",
            "weights",
            "int8",
            "LiteRT: weights",
            "int8",
            "speed-up",
            "of int8.onnx",
            "bytes",
        )
        rows = []
        for item in self.benches:
            if item.litert is None or item.litert_int8 is None:
                continue
            results = (item.float32, item.weight_only, item.int8, item.litert, item.litert_int8)
            rows.append(
                (
                    item.network,
                    *(f"{result.latency_ms:.3f}" for result in results),
                    f"{item.litert.latency_ms / item.litert_int8.latency_ms:.2f}x",
                    f"{item.litert_int8.latency_ms / item.int8.latency_ms:.2f}",
                    f"{item.litert_int8.size_bytes / item.int8.size_bytes:.2f}",
                )
            )
        return "\n".join(
            [
                render_table(header, rows),
                "the same runs; LiteRT: weight-only, then int8 and its speed-up over that, then LiteRT's int8 file",
                "over onnxruntime's: time and bytes",
            ]
        )


def zoo_network(name: str, arguments: Mapping[str, Any] | None = None) -> tuple[nn.Module, Tensor]:
    """A network as training leaves it, with random codes, and inputs for calibration.

    Args:
        name: Of the registry.
        arguments: Of its factory; none gives its published size.
    """
    model, inputs = sample_network(name, **(arguments or {}))
    draw_codes(model, share_zeros(model))
    grow_embeddings(model)
    settle_batch_norm(model, inputs)
    return model, inputs


def share_zeros(model: nn.Module) -> dict[str, float]:
    """The share of zeros of each quantized weight, by name: ZEROS over all of them, fewer where channels are small."""
    shapes = {weight.name: weight.original.shape for weight in quantized_weights(model)}
    few = {name for name, shape in shapes.items() if shape[1:].numel() < FEW_INPUTS}
    numel, of_few = (sum(shapes[name].numel() for name in names) for names in (shapes, few))
    others = (ZEROS * numel - ZEROS_OF_FEW * of_few) / max(numel - of_few, 1)
    return {name: ZEROS_OF_FEW if name in few else others for name in shapes}


@torch.no_grad()
def grow_embeddings(model: nn.Module) -> None:
    """Give a class token and positions, which start at a standard deviation of 0.02, that of the tokens beside them.

    One step of the uint8 grid that they share with those tokens would else be as large as they are.
    """
    for name, parameter in model.named_parameters():
        if name in ("cls_token", "pos_embed"):
            parameter.div_(parameter.std())


@torch.no_grad()
def settle_batch_norm(model: nn.Module, inputs: Tensor) -> None:
    """Give BatchNorms scales and shifts as training leaves them, one negative scale each, and matching statistics."""
    generator = torch.Generator().manual_seed(SEED)
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.weight.copy_(0.9 + 0.3 * torch.randn(norm.num_features, generator=generator))
        norm.weight[0] = -norm.weight[0].abs()
        norm.bias.copy_(SHIFT + 0.2 * torch.randn(norm.num_features, generator=generator))
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
    model.train()
    if norms:
        for batch in inputs.split(BATCH_SIZE)[:BATCHES]:
            model(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()


def export_zoo_file(
    network: str, model: nn.Module, inputs: Tensor, path: Path, activations: Activations, storage: Storage
) -> ZooFile:
    """Export one file and hold it to the parity contract; what does not hold is in the result, no exception.

    Args:
        network: Its name, for the result.
        model, inputs: From `zoo_network`.
        path: To be written.
        activations, storage: As for `export_onnx`.
    """
    held = inputs[: default_check(tuple(inputs.shape[1:]))]
    calibration = inputs if activations == "int8" else None
    options: dict[str, Any] = {"activations": activations, "calibration": calibration, "check_inputs": (held,)}
    report: Report | None = None
    failure = ""
    try:
        report = export_onnx(model, (inputs[:2],), path, storage=storage, **options)
    except (CodeqError, ParityError) as error:
        failure = str(error)
    kernels = report.kernels if report else ()
    return ZooFile(
        network=network,
        activations=activations,
        storage=storage,
        size_bytes=report.size_bytes if report else None,
        float32_bytes=report.float32_bytes if report else None,
        sparsity=report.sparsity if report else None,
        integer_layers=sum(kernel.is_integer for kernel in kernels),
        float_layers=sum(not kernel.is_integer for kernel in kernels),
        kernels=tuple(kernel.kernel for kernel in kernels),
        skipped_folds=report.skipped_folds if report else {},
        parity=_figure(report.verdict) if report else "",
        failure=failure or ("" if report is None or report.verdict.ok else report.verdict.first_failure),
    )


def export_zoo_tflite(network: str, model: nn.Module, inputs: Tensor, path: Path, activations: Activations) -> ZooFile:
    """As `export_zoo_file`, for LiteRT. An export that declines the network is `refused`, which is no failure.

    A file that LiteRT cannot run is one.
    """
    held = inputs[: default_check(tuple(inputs.shape[1:]))]
    calibration = inputs if activations == "int8" else None
    options: dict[str, Any] = {"activations": activations, "calibration": calibration, "check_inputs": (held,)}
    report: TfliteReport | None = None
    failure = refused = ""
    try:
        report = export_tflite(model, (inputs[:2],), path, **options)
    except DeclinedError as error:
        refused = str(error)
    except (CodeqError, ParityError) as error:
        failure = str(error)
    return ZooFile(
        network=network,
        activations=activations,
        storage=LITERT,
        size_bytes=report.size_bytes if report else None,
        float32_bytes=report.float32_bytes if report else None,
        sparsity=report.sparsity if report else None,
        integer_layers=len(report.kernels) if report else 0,
        float_layers=len(report.float_layers) if report else 0,
        kernels=tuple(report.kernels.values()) if report else (),
        skipped_folds=report.skipped_folds if report else {},
        parity=_figure(report.verdict) if report else "",
        failure=failure,
        refused=refused,
    )


def bench_network(
    network: str,
    model: nn.Module,
    inputs: Tensor,
    folder: Path,
    *,
    rounds: int | None = None,
    on_progress: Callable[[float, str], None] = lambda share, detail: None,
) -> ZooBench:
    """Time a network's files next to float32, and where it is of MLPerf Tiny next to `quantize_static`.

    Args:
        network: Its name.
        model, inputs: From `zoo_network`.
        folder: Holds the files of `TIMED`, as `zoo` names them, and those for LiteRT where there are any.
        rounds: Timed runs per file; None takes as many as `bench` finds time for.
        on_progress: As for `bench`.
    """
    paths = [folder / f"{network}-float32.onnx"]
    export_bare(codeq.detach(copy.deepcopy(model)), inputs, paths[0])
    paths += [_path(folder, network, activations, storage) for activations, storage in TIMED]
    if network in MLPERF_TINY:
        paths.append(folder / f"{network}-quantize_static.onnx")
        quantize_static(paths[0], paths[-1], inputs)
    litert = [_path(folder, network, activations, LITERT) for activations in ACTIVATIONS]
    paths += [path for path in litert if path.exists()]
    report = bench(paths, rounds=rounds, on_progress=on_progress)
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


def zoo(
    networks: Sequence[str],
    folder: Path,
    *,
    arguments: Mapping[str, Mapping[str, Any]] | None = None,
    timed: bool = False,
    rounds: int | None = None,
    on_progress: Callable[[float, str], None] = lambda share, detail: None,
) -> ZooReport:
    """Export and check every network in every mode and storage.

    Args:
        networks: Of the registry.
        folder: Where the files go.
        arguments: Of their factories, by network.
        timed: Measure latency too.
        rounds: As for `bench_network`.
        on_progress: Called with the share done, 0 to 1, and what comes next.
    """
    files: list[ZooFile] = []
    benches: list[ZooBench] = []
    storages = (*STORAGES, LITERT) if installed("litert") else STORAGES
    modes = [(activations, storage) for activations in ACTIVATIONS for storage in storages]
    steps = (len(modes) + timed) * len(networks)
    for index, network in enumerate(networks):
        done = (len(modes) + timed) * index
        on_progress(done / steps, network)
        model, inputs = zoo_network(network, (arguments or {}).get(network))
        failed = False
        for number, (activations, storage) in enumerate(modes):
            on_progress((done + number) / steps, f"{network}, {MODES[activations]}, {storage}")
            path = _path(folder, network, activations, storage)
            if storage == LITERT:
                files.append(export_zoo_tflite(network, model, inputs, path, activations))
            else:
                files.append(export_zoo_file(network, model, inputs, path, activations, storage))
            failed = failed or bool(files[-1].failure)
        if timed and not failed:
            start = done + len(modes)
            benches.append(
                bench_network(
                    network,
                    model,
                    inputs,
                    folder,
                    rounds=rounds,
                    on_progress=lambda share, _, start=start, network=network: on_progress(  # type: ignore[misc]
                        (start + share) / steps, f"{network}, timing"
                    ),
                )
            )
    on_progress(1.0, "")
    return ZooReport(tuple(files), tuple(benches))


def _figure(verdict: Verdict | TfliteVerdict) -> str:
    """What the verdict was based on, in a few words."""
    if isinstance(verdict, TfliteVerdict):
        layers = [layer for layer in verdict.layers if layer.kernel != "float"]
        if not verdict.layers:
            return f"max_abs_error {max(output.max_abs_error for output in verdict.outputs):.1e}"
        return f"{sum(layer.differing for layer in layers)} of {sum(layer.elements for layer in layers):,} codes"
    if verdict.integer is None:
        return f"max_abs_error {verdict.max_abs_error:.1e}"
    integer = verdict.integer
    return f"{integer.differing(integer_kernels=True)} of {integer.elements(integer_kernels=True):,} codes"


def _path(folder: Path, network: str, activations: Activations, storage: Storage | Literal["litert"]) -> Path:
    suffix = "tflite" if storage == LITERT else "onnx"
    return folder / f"{network}-{MODES[activations]}-{storage}.{suffix}"


def _build_parser() -> argparse.ArgumentParser:
    parser = cli.build_parser(
        "runtime_tests.zoo",
        "Export every network of the registry with random 4-bit codes, four fifths of them zeros, in every mode and "
        "storage, and hold each file to the parity contract. Exit status: 0 all hold, 1 one does not, 2 bad input.",
        "python -m runtime_tests.zoo --networks ds_cnn resnet8 --bench",
    )
    parser.add_argument(
        "--networks", nargs="+", choices=list(models.MODELS), metavar="NAME", help="some of the registry (default: all)"
    )
    parser.add_argument(
        "--bench", action="store_true", help="time the files next to float32 and onnxruntime's quantize_static"
    )
    parser.add_argument(
        "--rounds", type=cli.integer(1), metavar="N", help="timed runs of each file (default: five seconds' worth)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table; - is stdout")
    parser.add_argument("--force", action="store_true", help="overwrite an existing table")
    return parser


def main(argv: list[str] | None = None) -> int:
    """`python -m runtime_tests.zoo`; see `--help`."""
    arguments = _build_parser().parse_args(argv)
    cli.check_json(arguments.json, force=arguments.force)
    networks = list(dict.fromkeys(arguments.networks or models.MODELS))
    with tempfile.TemporaryDirectory() as folder, cli.progress_bar("zoo", 1000) as update:
        report = zoo(
            networks,
            Path(folder),
            timed=arguments.bench,
            rounds=arguments.rounds,
            on_progress=lambda share, detail: update(int(1000 * share), detail),
        )
    cli.show_report(report, arguments.json)
    return 0 if report.ok else cli.EXIT_FAILED


if __name__ == "__main__":
    cli.run(main)
