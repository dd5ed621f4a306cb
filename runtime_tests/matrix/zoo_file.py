"""One network as one file: exported, held to the parity contract, and what came of it as a row."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from codeq.errors import CodeqError
from export import export_onnx
from export.errors import DeclinedError
from export.onnx.storage.kinds import Storage
from export.options import Activations, default_check
from export.parity.verdict import ParityError, Verdict
from export.report import Report
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
    report: Report | None = None
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
    integer = sum(kernel.is_integer for kernel in report.kernels)
    return ZooFile(
        network=network,
        activations=activations,
        storage=storage,
        size_bytes=report.size_bytes,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        float32_bytes=report.float32_bytes,
        sparsity=report.sparsity,
        integer_layers=integer,
        float_layers=len(report.kernels) - integer,
        kernels=tuple(kernel.kernel for kernel in report.kernels),
        skipped_folds=report.skipped_folds,
        parity=_figure(report.verdict),
        failure=report.verdict.first_failure,
    )


def file_path(folder: Path, network: str, activations: Activations, storage: Kind) -> Path:
    """Name the file of a network in a mode and a storage."""
    suffix = "tflite" if storage == LITERT else "onnx"
    return folder / f"{network}-{MODES[activations]}-{storage}.{suffix}"


def _figure(verdict: Verdict) -> str:
    """Say what a verdict was based on, in a few words."""
    if not verdict.codes:
        return f"max_abs_error {verdict.max_abs_error:.1e}"
    return f"{verdict.differing(exact=True)} of {verdict.elements(exact=True):,} codes"
