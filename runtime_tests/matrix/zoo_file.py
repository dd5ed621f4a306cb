"""This module exports one network as one file, holds it to the parity contract, and gives what came of it as a row."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from codeq.errors import CodeqError
from export.backend import BACKENDS, Backend, get_backend
from export.errors import DeclinedError
from export.options import Activations, Quantization, default_check
from export.parity.verdict import ParityError, Verdict
from export.publish import publish
from export.report import Report

MODES: Mapping[Activations, str] = {"float32": "weight-only", "int8": "int8"}


@dataclass(frozen=True)
class Kind:
    """A kind of file is a backend with one of its `variants`."""

    backend: Backend
    variant: str

    def path(self, folder: Path, network: str, activations: Activations) -> Path:
        """Name the file of a network in a mode."""
        return folder / f"{network}-{MODES[activations]}-{self.variant}{self.backend.suffix}"


@dataclass(frozen=True)
class ZooFile:
    """Holds what became of one export.

    Attributes:
        backend, variant: Its kind.
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
    backend: str
    variant: str
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


def all_kinds() -> list[Kind]:
    """Give every kind of file that can be written here: a backend whose runtime is missing has none."""
    kinds = []
    for name in BACKENDS:
        backend = get_backend(name)
        try:
            backend.require()
        except CodeqError:
            continue
        kinds += [Kind(backend, variant) for variant in backend.variants]
    return kinds


def export_zoo_file(
    network: str, model: nn.Module, inputs: Tensor, folder: Path, activations: Activations, kind: Kind
) -> ZooFile:
    """Export one file and hold it to the parity contract; what does not hold is in the result, no exception.

    Args:
        network: Its name, for the file and the result.
        model, inputs: From `zoo_network`.
        folder: Where the file goes; `kind.path` names it.
        activations: As for the exporters.
        kind: Of the file.
    """
    backend, path = kind.backend, kind.path(folder, network, activations)
    row = ZooFile(network, activations, backend.name, kind.variant)
    try:
        request = backend.request(
            quantization=Quantization(activations=activations, calibration=inputs if activations == "int8" else None),
            check_inputs=(inputs[: default_check(inputs[0].numel())],),
            **backend.variants[kind.variant],
        )
        report = publish(backend, model, (inputs[:2],), path, request)
    except DeclinedError as error:
        return replace(row, refused=str(error))
    except (CodeqError, ParityError) as error:
        return replace(row, failure=str(error))
    return replace(row, **_figures(report, path))


def _figures(report: Report, path: Path) -> dict[str, Any]:
    integer = sum(kernel.is_integer for kernel in report.kernels)
    return {
        "size_bytes": report.size_bytes,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "float32_bytes": report.float32_bytes,
        "sparsity": report.sparsity,
        "integer_layers": integer,
        "float_layers": len(report.kernels) - integer,
        "kernels": tuple(kernel.kernel for kernel in report.kernels),
        "skipped_folds": report.skipped_folds,
        "parity": _describe(report.verdict),
        "failure": report.verdict.first_failure,
    }


def _describe(verdict: Verdict) -> str:
    """Say what a verdict was based on, in a few words."""
    if not verdict.codes:
        return f"max_abs_error {verdict.max_abs_error:.1e}"
    return f"{verdict.differing(exact=True)} of {verdict.elements(exact=True):,} codes"
