"""Take networks to processors: export each, run its probe there, and judge what comes back."""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import codeq
from codeq.cost import summary
from codeq.errors import CodeqError
from codeq.graph.autocast import autocast_off
from codeq.toolkit.report_version import FORMAT_VERSION
from codeq.toolkit.table import fold_line, render_table
from codeq.toolkit.versions import installed_versions
from export.backend import Backend, StoredFile, get_backend
from export.errors import ExportError
from export.options import Quantization
from export.parity.held import hold_inputs
from export.parity.verdict import ParityError, Verdict
from export.publish import publish
from export.stored_network import stored_network
from export.stored_program import stored_program
from runtime_tests.devices.judge import judge
from runtime_tests.devices.kit import batch_of, write_kit
from runtime_tests.devices.names import SPARSE, STRESS
from runtime_tests.devices.packages import WHEELS
from runtime_tests.devices.processor import Processor
from runtime_tests.devices.results import read_results
from runtime_tests.networks import zoo_network

SMALLER: Mapping[str, Mapping[str, int]] = {"mobilenet_v2": {"input_size": 64}, "tiny_vit": {"input_size": 8}}
"""Networks that get smaller images than they are made for, as emulators are slow: the same layers and kernels."""
BEYOND = 4
"""A network whose FEWEST_INPUTS ask for so many times a processor's multiply-adds is not run there."""
MOST_INPUTS, FEWEST_INPUTS = 12, 3
NOT_READ = "it reads no such file"
SPARSE_NETWORKS = dict(zip(SPARSE, (("mobilenet_v2", {"input_size": 32}), ("mobilenet_v1", {})), strict=True))
SPARSE_BACKEND = "tflite"
STRESS_CHANNELS, STRESS_SIZE = 32, 8


@dataclass(frozen=True)
class DeviceRow:
    """Says what one file did on one processor.

    Attributes:
        network, file, processor, how: Which; `file` is the suffix with what computes, e.g. "int8.onnx".
        runtime: With its version.
        inputs: How many.
        codes, off: Codes behind kernels that follow a rule, and those that are off it.
        float_codes, ties: Codes behind float kernels, and those of them that are off the reference, by ties.
        argmax: Inputs that are classified otherwise than by the reference, end to end.
        failure: Why the contract does not hold; empty where it does.
        skipped: Why it was not run; empty where it was.
    """

    network: str
    file: str
    processor: str
    how: str
    runtime: str = ""
    inputs: int = 0
    codes: int = 0
    off: int = 0
    float_codes: int = 0
    ties: int = 0
    argmax: int = 0
    failure: str = ""
    skipped: str = ""


@dataclass(frozen=True)
class DevicesReport:
    """Holds the table of a target. `print(report)` shows it."""

    target: str
    rows: tuple[DeviceRow, ...]

    @property
    def ok(self) -> bool:
        """Say whether the contract holds everywhere."""
        return not any(row.failure for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Give everything to machines, with plain types."""
        about = {
            "format_version": FORMAT_VERSION,
            "target": self.target,
            "ok": self.ok,
            "versions": installed_versions("torch", *WHEELS),
        }
        return about | {"rows": [asdict(row) for row in self.rows]}

    def __str__(self) -> str:
        processors = list(dict.fromkeys(row.processor for row in self.rows))
        cells: dict[tuple[str, str], dict[str, DeviceRow]] = {}
        for row in self.rows:
            cells.setdefault((row.network, row.file), {})[row.processor] = row
        table = [
            (network, file, f"{max(row.codes for row in found.values()):,}", *(_cell(found.get(p)) for p in processors))
            for (network, file), found in cells.items()
        ]
        how = ", ".join(dict.fromkeys(f"{row.processor}: {row.how}" for row in self.rows))
        runtimes = ", ".join(dict.fromkeys(row.runtime for row in self.rows if row.runtime))
        lines = [render_table(("network", "file", "codes", *processors), table)]
        said = "codes off the processor's rule, + those behind float kernels that ties explain"
        lines.append(fold_line(f"{said}; {how}", 2))
        lines += [
            fold_line(f"{row.network} {row.file} on {row.processor}: {row.failure}", 2)
            for row in self.rows
            if row.failure
        ]
        left_out = {(row.processor, row.skipped): None for row in self.rows if row.skipped not in ("", NOT_READ)}
        lines += [fold_line(f"not run on {processor}: {reason}", 2) for processor, reason in left_out]
        argmax = sum(row.argmax for row in self.rows)
        lines.append(f"{self.target}  {runtimes}, argmax differs on {argmax} inputs: {'ok' if self.ok else 'FAILED'}")
        return "\n".join(lines)


def run_devices(
    target: str,
    processors: Sequence[Processor],
    networks: Sequence[str],
    backends: Sequence[str],
    *,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    patient: bool = False,
    on_progress: Callable[[float, str], None] = lambda share, detail: None,
) -> DevicesReport:
    """Run every network's int8 files on every processor.

    Args:
        target: For the report.
        processors: From `arm.prepare` or `x86.prepare`.
        networks: Names of the registry, `STRESS`, or of `SPARSE`.
        backends: "onnx", "tflite".
        options: Further ones of their requests, by backend.
        patient: Run networks too that take minutes on a processor.
        on_progress: Called with the share done, 0 to 1, and what is next.
    """
    rows: list[DeviceRow] = []
    total = len(networks) * len(backends) * len(processors)
    with tempfile.TemporaryDirectory() as folder:
        for network in networks:
            if network == STRESS:
                model, inputs = stress_network()
            else:
                model, inputs = zoo_network(*SPARSE_NETWORKS.get(network, (network, SMALLER.get(network))))
            for backend in map(get_backend, backends):
                if network in SPARSE and backend.name != SPARSE_BACKEND:
                    continue
                for row in _file_rows(
                    network, model, inputs, backend, processors, Path(folder), options or {}, patient
                ):
                    rows.append(row)
                    on_progress(len(rows) / total, f"{network} {row.file} on {row.processor}")
    return DevicesReport(target, tuple(rows))


def _file_rows(
    network: str,
    model: nn.Module,
    inputs: Tensor,
    backend: Backend,
    processors: Sequence[Processor],
    folder: Path,
    options: Mapping[str, Mapping[str, Any]],
    patient: bool,
) -> Iterator[DeviceRow]:
    """Export one file and take it to every processor."""
    path, name = folder / f"{network}{backend.suffix}", f"int8{backend.suffix}"
    quantization = Quantization(activations="int8", calibration=inputs)
    if network in SPARSE:
        name, quantization = f"float32{backend.suffix}", Quantization()
    macs = summary(model, tuple(inputs.shape[1:])).macs
    slow = [item for item in processors if item.missing or (FEWEST_INPUTS * macs > BEYOND * item.macs and not patient)]
    skipped = [item for item in slow if backend.name in item.backends]
    for processor in skipped:
        reason = processor.missing or f"too slow in {processor.how}"
        yield DeviceRow(network, name, processor.name, processor.how, skipped=reason)
    foreign = [item for item in processors if backend.name not in item.backends]
    yield from (DeviceRow(network, name, item.name, item.how, skipped=NOT_READ) for item in foreign)
    processors = [item for item in processors if item not in (*skipped, *foreign)]
    if not processors:
        return
    fitting = min(item.macs for item in processors) // macs
    taken = inputs[: min(MOST_INPUTS, max(FEWEST_INPUTS, fitting))]
    try:
        request = backend.request(
            quantization=quantization,
            check_inputs=(taken,),
            force=True,
            **options.get(backend.name, {}),
        )
        report = publish(backend, model, (inputs[:2],), path, request)
        if network in SPARSE and not report.details.sparse_inference.engages:
            raise ExportError(f"{name}: its zeros are not skipped: {report.details.sparse_inference.reason}")
        verdict = report.verdict
        stored = backend.read(path)
        model = stored_network(stored, model, taken)
        kit = write_kit(backend, stored, model, taken, folder / f"probe{backend.suffix}", checkpoint=path, force=True)
    except (CodeqError, ParityError) as error:
        yield from (DeviceRow(network, name, item.name, item.how, failure=str(error)) for item in processors)
        return
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        places = [folder / f"{number}-results.npz" for number in range(len(processors))]
        files = kit.probe, path
        runs = [
            pool.submit(processor.run, kit.script, (kit.inputs, place, *files))
            for processor, place in zip(processors, places, strict=True)
        ]
        for processor, place, run in zip(processors, places, runs, strict=True):
            try:
                run.result()
                found = _judge(backend, stored, model, taken, place, verdict)
            except CodeqError as error:
                yield DeviceRow(network, name, processor.name, processor.how, failure=str(error))
                continue
            yield DeviceRow(
                network,
                name,
                processor.name,
                processor.how,
                f"{found.runtime.partition(' on ')[0]} {found.runtime_version}",
                len(taken),
                found.elements(exact=True),
                found.differing(exact=True),
                found.elements(exact=False),
                found.differing(exact=False),
                max((check.argmax_differences for check in found.outputs), default=0),
                found.first_failure,
            )


@autocast_off()
def _judge(
    backend: Backend, stored: StoredFile, model: nn.Module, inputs: Tensor, results: Path, here: Verdict
) -> Verdict:
    program = stored_program(stored, model, inputs)
    held = hold_inputs(model, inputs, fixed_batch=batch_of(stored))
    return judge(backend, stored, model, held, program, read_results(results), here)


def stress_network() -> tuple[nn.Module, Tensor]:
    """Build a network whose codes reach to both ends of 8 bits, so that products in 16 bits would saturate."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    channels = STRESS_CHANNELS
    model = nn.Sequential(
        nn.Conv2d(3, channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(channels, 10),
    )
    inputs = torch.randn(16, 3, STRESS_SIZE, STRESS_SIZE, generator=generator)
    with torch.no_grad():
        for module in model:
            if isinstance(module, nn.Conv2d | nn.Linear):  # one sign and one size, as most products then are
                module.weight.copy_(module.weight.sign() * module.weight.abs().max())
                module.weight.mul_(torch.where(torch.rand(module.weight.shape, generator=generator) < 0.9, 1.0, -1.0))
    codeq.attach(model, 8)
    codeq.freeze(model)
    return model.eval(), inputs


def _cell(row: DeviceRow | None) -> str:
    if row is None or row.skipped:
        return "not run" if row else ""
    if not row.failure and not row.codes and not row.float_codes:
        return "ok"
    return "FAILED" if row.failure else f"{row.off:,}{f' + {row.ties:,}' if row.ties else ''}"
