"""One network as four files, measured side by side: `python -m runtime_tests.compare resnet18`.

    float32            torch.onnx.export of the network with its quantized values
    weights            our file with float32 activations
    int8               our file with uint8 activations
    quantize_static    onnxruntime's own post-training quantization of the float32 file, after its own preparation (QDQ,
                       uint8 activations, int8 weights per channel, min-max), from the same calibration inputs

Weights are random, four bits, about four fifths zeros: latency does not depend on their values. Export time and memory
are taken in processes of their own, torch's bare exporter and ours, one after the other.
"""

import argparse
import copy
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import codeq
import models
from codeq.errors import CodeqError
from codeq.quantizer.attach import quantized_weights
from codeq.toolkit import cli
from codeq.toolkit.quiet import quiet_torch
from codeq.toolkit.table import format_bytes, render_table
from export import export_onnx
from export.options import CALIBRATION_VALUES, default_check
from export.program.prepare import Activations
from runtime_tests.bench.latency import BenchReport, bench
from runtime_tests.bench.memory import peak_bytes, reset_peak

THETA = 0.55
WARM_UP_INPUTS = 8
EXPORT_REPEATS = 3


@dataclass(frozen=True)
class ExportCost:
    """Medians over processes. `peak_memory_bytes` is over what the process held before the export."""

    seconds: float
    peak_memory_bytes: int


@dataclass(frozen=True)
class Comparison:
    """What one run measured: four files, and the exports of two of them."""

    network: str
    weight_bytes: int
    bench: BenchReport
    bare_export: ExportCost
    our_export: ExportCost

    def to_dict(self) -> dict[str, Any]:
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


def sample_network(name: str, **arguments: Any) -> tuple[nn.Module, Tensor]:
    """A network as training leaves it, with random weights, and calibration inputs for it.

    Args:
        name: Of the registry.
        **arguments: Of its factory; none gives its published size.
    """
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = models.create(name, **arguments)
    codeq.attach(model, bits=4)
    shape = model.input_shape
    count = max(WARM_UP_INPUTS, min(128, CALIBRATION_VALUES // math.prod(shape)))  # type: ignore[arg-type]
    inputs = torch.randn(count, *shape, generator=generator)  # type: ignore[misc]
    with torch.no_grad():
        for weight in quantized_weights(model):
            weight.quantizer.theta_dz.fill_(THETA)
        model.train()
        for _ in range(3):
            model(inputs[:WARM_UP_INPUTS])
    codeq.freeze(model)
    return model.eval(), inputs


def build_files(name: str, folder: Path, on_progress: Callable[[str], None] = lambda detail: None) -> list[Path]:
    """Write the four files of a network; float32 first."""
    model, inputs = sample_network(name)
    paths = [folder / f"{name}-{kind}.onnx" for kind in ("float32", "weights", "int8", "quantize_static")]
    on_progress("float32")
    export_bare(codeq.detach(copy.deepcopy(model)), inputs, paths[0])
    held = inputs[: default_check(inputs.shape[1:])]
    modes: tuple[Activations, ...] = ("float32", "int8")
    for path, activations in zip(paths[1:3], modes, strict=True):
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


def export_bare(model: nn.Module, inputs: Tensor, path: Path) -> None:
    """torch's own exporter with an open batch size, and nothing else."""
    with quiet_torch():
        torch.onnx.export(
            model,
            (inputs[:2],),
            str(path),
            dynamo=True,
            input_names=["input"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            external_data=False,
            verbose=False,
        )


def quantize_static(source: Path, target: Path, inputs: Tensor) -> None:
    """onnxruntime's post-training quantization, as its documentation recommends for x86 with VNNI."""
    import logging

    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.rows = iter(inputs.split(1))

        def get_next(self) -> dict[str, np.ndarray] | None:
            row = next(self.rows, None)
            return None if row is None else {"input": row.numpy()}

    logging.getLogger().setLevel(logging.ERROR)
    prepared = target.with_suffix(".prepared.onnx")
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    quantization.quantize_static(
        str(prepared),
        str(target),
        Reader(),
        quant_format=quantization.QuantFormat.QDQ,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        per_channel=True,
    )
    prepared.unlink()


def compare(
    name: str,
    folder: Path,
    *,
    threads: int = 1,
    seconds: float = 10.0,
    on_progress: Callable[[float, str], None] = lambda share, detail: None,
) -> Comparison:
    """Build and measure everything.

    Args:
        name: Registry name.
        folder: Where the files go; they stay there.
        threads, seconds: As for `bench`.
        on_progress: Called with the share done, 0 to 1, and what is going on.

    Raises:
        CodeqError: No such network, or an export that failed.
    """
    if name not in models.MODELS:
        raise CodeqError(f"unknown model {name!r}, expected one of {', '.join(models.MODELS)}")
    folder.mkdir(parents=True, exist_ok=True)
    paths = build_files(name, folder, lambda detail: on_progress(0.1, f"building {detail}"))
    report = bench(
        paths,
        threads=threads,
        seconds=seconds,
        on_progress=lambda share, detail: on_progress(0.3 + 0.3 * share, detail),
    )
    costs: dict[str, list[ExportCost]] = {"bare": [], "ours": []}
    for repeat in range(EXPORT_REPEATS):
        for kind, measured in costs.items():
            on_progress(0.6 + 0.4 * repeat / EXPORT_REPEATS, f"export {kind}")
            measured.append(_measure_in_a_process(name, kind, folder))
    medians = {
        kind: ExportCost(
            median(cost.seconds for cost in measured), int(median(cost.peak_memory_bytes for cost in measured))
        )
        for kind, measured in costs.items()
    }
    weights = 4 * sum(parameter.numel() for parameter in models.create(name).parameters())
    return Comparison(name, weights, report, medians["bare"], medians["ours"])


def measure_export(name: str, kind: str, folder: Path) -> ExportCost:
    """Time and memory of one export in this process, imports and the network itself not counted."""
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401
    import onnxscript  # noqa: F401

    model, inputs = sample_network(name)
    held = inputs[: default_check(inputs.shape[1:])]
    path = folder / f"{name}-{kind}.measured.onnx"
    if kind == "bare":
        model = codeq.detach(model)
    before = reset_peak()
    start = time.perf_counter()
    if kind == "bare":
        export_bare(model, inputs, path)
    else:
        options: Any = {"activations": "int8", "calibration": inputs, "check_inputs": (held,), "force": True}
        export_onnx(model, (inputs[:2],), path, **options)
    cost = ExportCost(time.perf_counter() - start, peak_bytes() - before)
    path.unlink()
    return cost


def _measure_in_a_process(name: str, kind: str, folder: Path) -> ExportCost:
    command = [sys.executable, "-m", "runtime_tests.compare", name, "--folder", str(folder), "--measure", kind]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    if done.returncode:
        raise CodeqError(f"the export of {name} cannot be measured ({done.stderr.strip().splitlines()[-1]})")
    return ExportCost(**json.loads(done.stdout))


def _build_parser() -> argparse.ArgumentParser:
    parser = cli.build_parser(
        "runtime_tests.compare",
        "Export a network four ways and measure the files and the exports. Exit status: 0 done, 2 bad input.",
        "python -m runtime_tests.compare resnet18 --folder bench",
    )
    names = ", ".join(models.MODELS)
    parser.add_argument("network", choices=list(models.MODELS), metavar="NETWORK", help=f"one of {names}")
    parser.add_argument("--folder", type=Path, default=Path("bench"), help="where the files go")
    parser.add_argument("--threads", type=cli.integer(1, 1024), default=1, metavar="N", help="threads of an operator")
    parser.add_argument("--seconds", type=cli.number(0, 3600), default=10.0, help="about how long to time each file")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the measurements; - is stdout")
    parser.add_argument("--force", action="store_true", help="overwrite existing measurements")
    parser.add_argument("--measure", choices=["bare", "ours"], help=argparse.SUPPRESS)
    return parser


def main(argv: list[str] | None = None) -> int:
    """`python -m runtime_tests.compare`; see `--help`."""
    arguments = _build_parser().parse_args(argv)
    if arguments.measure:
        print(json.dumps(asdict(measure_export(arguments.network, arguments.measure, arguments.folder))))
        return 0
    cli.check_json(arguments.json, force=arguments.force)
    with cli.progress_bar(arguments.network, 1000) as update:
        comparison = compare(
            arguments.network,
            arguments.folder,
            threads=arguments.threads,
            seconds=arguments.seconds,
            on_progress=lambda share, detail: update(int(1000 * share), detail),
        )
    cli.show_report(comparison, arguments.json)
    return 0
