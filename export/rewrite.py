"""A file is written anew for its network, with what its metadata says was asked for, and compared with the file.

Nothing that a check must think of slips through here: whatever part of a file is another one, it is no longer the file
that this package writes. What this cannot tell, and says so: grids of activations that were calibrated with inputs
which the checkpoint does not hold are taken from the file itself.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from codeq.graph.inputs import Inputs, slice_inputs
from codeq.quantizer.attach import encode
from export.backend import Backend, StoredFile
from export.errors import ExportError
from export.options import ExportRequest, Quantization
from export.parity.differences import Difference, compare
from export.program.prepare import Prepared, prepare_program, rebuild_program
from export.program.run import take_inputs

VERSIONS = "metadata codeq.versions"
PACKAGING = ("metadata codeq.checkpoint_sha256", "metadata codeq.versions", "metadata codeq.storage")
"""Where a difference says how a file came to be, and not what it computes."""
FROM_FILE = (
    "grids of activations are the file's own: they were calibrated with inputs that the checkpoint does not hold"
)


@dataclass(frozen=True)
class Rewriting:
    """Says how a file differs from what this package writes for its network today.

    Attributes:
        differences: Where; empty for a file that is the same, byte for byte.
        other_versions: The packages that wrote it, as "onnx 1.22.0, not 1.23.2", where they are not those installed:
            then a difference may be theirs.
        notes: What could not be compared.
    """

    differences: tuple[Difference, ...]
    other_versions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def deciding(self) -> tuple[Difference, ...]:
        """Return what neither other versions nor packaging explain: with other versions, nothing is."""
        if self.other_versions:
            return ()
        return tuple(item for item in self.differences if not item.where.startswith(PACKAGING))


def rewrite(
    backend: Backend,
    stored: StoredFile,
    model: nn.Module,
    inputs: Inputs,
    *,
    quantization: Quantization | None = None,
    preprocessing: Mapping[str, list[float]] | None = None,
    checkpoint_sha256: str | None = None,
) -> Rewriting:
    """Write a file anew and compare.

    Args:
        backend: Of the file.
        stored: From its `read`.
        model: The network that it should have been made from.
        inputs: Held inputs, batch first.
        quantization: How its activations are quantized; None takes the grids in the file.
        preprocessing, checkpoint_sha256: As the checkpoint has them.

    Raises:
        ExportError: The network cannot be traced, or what was asked for is not what this release knows.
    """
    metadata = stored.metadata
    if metadata.mismatch:
        raise ExportError(f"{stored.path}: was published although parity did not hold")
    request = _request(backend, stored, quantization, preprocessing, checkpoint_sha256)
    prepared = _prepare(stored, model, inputs, request)
    notes = (FROM_FILE,) if metadata.activations is not None and quantization is None else ()
    with tempfile.TemporaryDirectory() as folder:
        anew = Path(folder, stored.path.name)
        backend.write(prepared, request, anew)
        if _bytes(backend, anew) == _bytes(backend, stored.path):
            return Rewriting((), notes=notes)
        found, expected = backend.flat_file(stored.path), backend.flat_file(anew)
    differences = compare(found, expected)
    if not differences:
        differences = (Difference("bytes between the fields", "others", "those that are written"),)
    versions = tuple(
        f"{item.where.removeprefix(VERSIONS + '.')} {item.found.strip(chr(39))}, not {item.expected.strip(chr(39))}"
        for item in differences
        if item.where.startswith(VERSIONS)
    )
    return Rewriting(differences, versions, notes)


def _request(
    backend: Backend,
    stored: StoredFile,
    quantization: Quantization | None,
    preprocessing: Mapping[str, list[float]] | None,
    checkpoint_sha256: str | None,
) -> ExportRequest:
    metadata = stored.metadata
    if metadata.options is None:
        raise ExportError(
            f"{stored.path}: does not say what was asked for, as files of older releases; export it again"
        )
    if quantization is None:
        quantization = Quantization()
        if metadata.activations is not None:
            ranges: Any = metadata.activations_from.get("ranges", quantization.ranges)
            quantization = Quantization(
                activations="int8", ranges=ranges, activations_except=metadata.activations_except
            )
    try:
        request = backend.request(
            **metadata.options,
            quantization=quantization,
            preprocessing=preprocessing,
            checkpoint_sha256=checkpoint_sha256,
        )
        request.check()
    except TypeError as error:
        raise ExportError(f"{stored.path}: was asked for options that this release does not know ({error})") from error
    return request


def _prepare(stored: StoredFile, model: nn.Module, inputs: Inputs, request: ExportRequest) -> Prepared:
    metadata, quantization = stored.metadata, request.quantization
    batch = stored.fixed_batch or request.batch_size
    example = slice_inputs(inputs, slice(batch or 2))
    if metadata.activations is None or quantization.calibration is not None:
        return prepare_program(
            model,
            example,
            quantization,
            check_inputs=inputs,
            open_batch=request.open_batch,
            keep_state=request.keep_state,
        )
    program = rebuild_program(
        model,
        inputs,
        metadata.activations,
        exclude=metadata.activations_except,
        too_wide=metadata.activations_too_wide,
        fixed_batch=stored.fixed_batch,
    )
    held, names = take_inputs(model, inputs)
    return Prepared(program, encode(model), held, names, 0)


def _bytes(backend: Backend, path: Path) -> list[bytes]:
    return [file.read_bytes() for file in backend.files(path)]
