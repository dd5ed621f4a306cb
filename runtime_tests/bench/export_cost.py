"""This module measures time and memory of an export, torch's bare one and ours, each in processes of their own."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import onnx  # noqa: F401  loaded now: imports are no part of an export's cost
import onnxruntime  # noqa: F401
import onnxscript  # noqa: F401

import codeq
from codeq.errors import CodeqError
from codeq.toolkit.startup import child_environment
from export import export_onnx
from export.options import default_check
from runtime_tests.bench.baselines import export_bare
from runtime_tests.bench.memory import peak_bytes, reset_peak
from runtime_tests.networks import sample_network

REPEATS = 3


@dataclass(frozen=True)
class ExportCost:
    """Holds medians over processes. `peak_memory_bytes` is over what the process held before the export."""

    seconds: float
    peak_memory_bytes: int


def measure_exports(
    name: str, folder: Path, on_progress: Callable[[float, str], None] = lambda share, detail: None
) -> tuple[ExportCost, ExportCost]:
    """Measure torch's bare export of a network and our int8 export, parity included, in turn.

    Args:
        name: Of the registry.
        folder: Where files are written and removed again.
        on_progress: Called with the share done, 0 to 1, and what comes next.

    Raises:
        CodeqError: A process fails.
    """
    costs: dict[str, list[ExportCost]] = {"bare": [], "ours": []}
    for repeat in range(REPEATS):
        for kind, measured in costs.items():
            on_progress(repeat / REPEATS, f"export {kind}")
            measured.append(_measure_in_a_process(name, kind, folder))
    bare, ours = (
        ExportCost(median(cost.seconds for cost in measured), int(median(cost.peak_memory_bytes for cost in measured)))
        for measured in costs.values()
    )
    return bare, ours


def measure_export(name: str, kind: str, folder: Path) -> ExportCost:
    """Measure one export in this process, the network itself not counted.

    Args:
        name: Of the registry.
        kind: "bare" or "ours".
        folder: Where the file is written and removed again.
    """
    model, inputs = sample_network(name)
    held = inputs[: default_check(inputs[0].numel())]
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
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=child_environment())
    if done.returncode:
        raise CodeqError(f"the export of {name} cannot be measured ({done.stderr.strip().splitlines()[-1]})")
    return ExportCost(**json.loads(done.stdout))
