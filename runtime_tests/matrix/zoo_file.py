"""One network as one file: exported, held to the parity contract, and what came of it as a row."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from export.parity.report import Report
from export.tflite.report import TfliteReport
from torch import Tensor, nn

from codeq.errors import CodeqError
from export import export_onnx
from export.errors import DeclinedError, ParityError
from export.onnx.storage.plan import Storage
from export.options import default_check
from export.program.prepare import Activations
from export.tflite import export_tflite

Kind = Storage | Literal["litert"]
"""A storage of an ONNX file, or a .tflite file."""
STORAGES: tuple[Storage, ...] = ("auto", "sparse", "packed")
LITERT: Literal["litert"] = "litert"
MODES: Mapping[Activations, str] = {"float32": "weight-only", "int8": "int8"}


@dataclass(frozen=True)
class ZooFile:
    """Holds what became of one export.

    Attributes:
        storage: Of the weights; "litert" is a .tflite file.
        size_bytes, sha256: Of the file; None where none was written.
        float32_bytes: The network's parameters and buffers at 4 bytes each.
        integer_layers, float_layers: Layers that could compute in integers and do, or do not; with float32 activations
            none is counted.
        kernels: What the layers became.
        parity: What the verdict was based on, in a few words.
        failure: Why parity does not hold; empty where it does.
        refused: Why there is no file, where the export declines the network.
    """

    network: str
    activations: Activations
    storage: Kind
    size_bytes: int | None = None
    sha256: str | None = None
    float32_bytes: int | None = None
    sparsity: float | None = None
    integer_layers: int = 0
    float_layers: int = 0
    kernels: tuple[str, ...] = ()
    skipped_folds: dict[str, str] = field(default_factory=dict)
    parity: str = ""
    failure: str = ""
    refused: str = ""


def export_zoo_file(
    network: str, model: nn.Module, inputs: Tensor, path: Path, activations: Activations, storage: Kind
) -> ZooFile:
    """Export one file and hold it to the parity contract; what does not hold is in the result, no exception.

    Args:
        network: Its name, for the result.
        model, inputs: From `zoo_network`.
        path: To be written.
        activations: As for `export_onnx`.
        storage: Likewise, or "litert".
    """
    options: dict[str, Any] = {
        "activations": activations,
        "calibration": inputs if activations == "int8" else None,
        "check_inputs": (inputs[: default_check(tuple(inputs.shape[1:]))],),
    }
    report: Report | TfliteReport | None = None
    failure = refused = ""
    try:
        if storage == LITERT:
            report = export_tflite(model, (inputs[:2],), path, **options)
        else:
            report = export_onnx(model, (inputs[:2],), path, storage=storage, **options)
    except DeclinedError as error:
        refused = str(error)
    except (CodeqError, ParityError) as error:
        failure = str(error)
    if report is None:
        return ZooFile(network, activations, storage, failure=failure, refused=refused)
    integer, in_float, kernels, figure = _summarize(report)
    return ZooFile(
        network=network,
        activations=activations,
        storage=storage,
        size_bytes=report.size_bytes,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        float32_bytes=report.float32_bytes,
        sparsity=report.sparsity,
        integer_layers=integer,
        float_layers=in_float,
        kernels=kernels,
        skipped_folds=report.skipped_folds,
        parity=figure,
        failure=report.verdict.first_failure,
    )


def file_path(folder: Path, network: str, activations: Activations, storage: Kind) -> Path:
    """Name the file of a network in a mode and a storage."""
    suffix = "tflite" if storage == LITERT else "onnx"
    return folder / f"{network}-{MODES[activations]}-{storage}.{suffix}"


def _summarize(report: Report | TfliteReport) -> tuple[int, int, tuple[str, ...], str]:
    """Say what the backends' reports and verdicts say each in its own way.

    Returns:
        Layers in integers and in float; what layers became; what the verdict was based on, in a few words.
    """
    if isinstance(report, TfliteReport):
        layers = [layer for layer in report.verdict.layers if layer.kernel != "float"]
        differing, elements = sum(layer.differing for layer in layers), sum(layer.elements for layer in layers)
        on_codes = bool(report.verdict.layers)
        error = max(output.max_abs_error for output in report.verdict.outputs)
        counts = len(report.kernels), len(report.float_layers), tuple(report.kernels.values())
    else:
        integer = report.verdict.integer
        on_codes, error = integer is not None, report.verdict.max_abs_error
        differing, elements = (
            (integer.differing(integer_kernels=True), integer.elements(integer_kernels=True)) if integer else (0, 0)
        )
        in_integers = sum(kernel.is_integer for kernel in report.kernels)
        names = tuple(kernel.kernel for kernel in report.kernels)
        counts = in_integers, len(report.kernels) - in_integers, names
    figure = f"{differing} of {elements:,} codes" if on_codes else f"max_abs_error {error:.1e}"
    return *counts, figure
