"""Write the file of a network anew, as the metadata of a stored one says that it was asked for, and compare both.

What a file computes is a claim about every byte of it: with the network and the options that are recorded, this package
writes the same file again. What differs is listed.
"""

import tempfile
from pathlib import Path
from typing import Any

from torch import nn

from codeq.errors import OutputError
from codeq.graph.autocast import autocast_off
from codeq.graph.inputs import Inputs
from export.backend import Backend, StoredFile
from export.errors import ExportError
from export.options import ExportRequest, Recorded
from export.parity.differences import Difference, FileComparison, differences
from export.program.prepare import prepare_again

BYTES = "bytes differ, and nothing that is read from them"


def compare_rewritten(
    backend: Backend, stored: StoredFile, model: nn.Module, inputs: Inputs, *, strict: bool = False
) -> FileComparison:
    """Compare a file with what its backend writes for a network; calibration, checkpoint and inputs aside.

    Args:
        backend: Of the file.
        stored: From its `read`.
        model: The network that the file should have been made from; in eval mode.
        inputs: For their shapes and dtypes, batch first.
        strict: Every difference is a failure.

    Raises:
        ExportError: The metadata names options that there are none of.
    """
    reason = backend.incomparable(stored)
    if reason:
        note = f"the file was not written anew to compare it: {reason}"
        return FileComparison(notes=(note,), strict=strict, compared=False)
    request = recorded_request(backend, stored)
    with tempfile.TemporaryDirectory(prefix="codeq-") as folder:
        try:
            path = rewrite(backend, stored, request, model, inputs, Path(folder))
            wanted = backend.read(path)
        except (ExportError, OutputError) as error:
            text = f"the file cannot be written anew with the options that it records: {error}"
            return FileComparison((Difference(text),), strict=strict)
        return compare_files(backend, stored, wanted, strict=strict)


def compare_files(backend: Backend, stored: StoredFile, wanted: StoredFile, *, strict: bool = False) -> FileComparison:
    """Compare a file with another one of the same backend, which is right."""
    found: list[Difference] = []
    if _contents(backend, stored.path) != _contents(backend, wanted.path):
        found = differences(backend.content(stored), backend.content(wanted)) or [Difference(BYTES, "strict")]
    same_versions = dict(stored.metadata.versions) == dict(wanted.metadata.versions)
    return FileComparison(tuple(found), same_versions=same_versions, strict=strict)


def recorded_request(backend: Backend, stored: StoredFile) -> ExportRequest:
    """Make the request that a file records, with what it says about its checkpoint.

    Raises:
        ExportError: An option that there is none of, or a value that it does not take.
    """
    metadata = stored.metadata
    options = {**backend.recorded_options(stored), **metadata.options}
    known = backend.request.own_fields()
    for name, value in options.items():
        if name not in known or not _fits(value, known[name]):
            raise ExportError(f"{stored.path}: its metadata is damaged (no option {name!r} of {value!r})")
    quantization = Recorded(
        activations="float32" if metadata.activations is None else "int8",
        activations_except=metadata.activations_except,
        recorded=metadata.calibration,
    )
    request = backend.request(
        quantization=quantization,
        preprocessing=metadata.preprocessing,
        labels=metadata.labels,
        checkpoint_sha256=metadata.checkpoint_sha256,
        **options,
    )
    try:
        request.check()
    except ExportError as error:
        raise ExportError(f"{stored.path}: its metadata is damaged ({error})") from error
    return request


@autocast_off()
def rewrite(
    backend: Backend, stored: StoredFile, request: ExportRequest, model: nn.Module, inputs: Inputs, folder: Path
) -> Path:
    """Write a file anew, under its own name.

    Args:
        backend: Of the file.
        stored: From its `read`: grids and notes are taken from its metadata.
        request: From `recorded_request`.
        model, inputs: As for `compare_rewritten`.
        folder: Where to write.

    Raises:
        ExportError: The network or an option cannot be exported.
    """
    metadata = stored.metadata
    prepared = prepare_again(
        model,
        inputs,
        metadata.activations,
        exclude=metadata.activations_except,
        too_wide=metadata.activations_too_wide,
        fixed_batch=None if request.open_batch else request.batch_size or stored.fixed_batch or 1,
        keep_state=request.keep_state,
    )
    prepared.program.removed_channels = metadata.removed_channels
    written = folder / "written"
    written.mkdir()
    path = written / stored.path.name
    backend.write(prepared, request, path)
    if metadata.materialized:
        dense = folder / "dense"
        dense.mkdir()
        backend.materialize(path, dense / path.name, force=False)
        path = dense / path.name
    if metadata.mismatch:
        backend.record_mismatch(path, metadata.mismatch)
    return path


def _fits(value: Any, default: Any) -> bool:
    """Whether a value is of the kind of a field's default, or a number where that is None."""
    return type(value) is (int if default is None else type(default))


def _contents(backend: Backend, path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in backend.files(path)}
