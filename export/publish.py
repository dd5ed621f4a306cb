"""Publish a file: prepare, write under a temporary name, hold it against its network, rename.

The file appears under its name only after the check held. This is all that an export does, whatever the backend.
"""

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from codeq.channels.shrink import NOTHING_SHRUNK, Shrunk, shrink
from codeq.graph.autocast import autocast_off
from codeq.graph.eval_mode import eval_mode
from codeq.graph.inputs import Inputs, join_inputs
from codeq.graph.state import dropped_writes
from codeq.quantizer.attach import quantized_weights
from codeq.quantizer.signal import NetworkSignal
from codeq.toolkit.files import check_writable, staging_folder
from codeq.toolkit.text import printable
from export.backend import Backend, OnProgress, StoredFile, StoredWeight, Written, backend_of
from export.errors import ExportError
from export.options import ExportRequest
from export.parity.differences import Difference, FileComparison
from export.parity.held import hold_inputs
from export.parity.verdict import ParityError, Verdict
from export.plain_network import compress_plain, untrained_warning, weight_signal
from export.program.prepare import Prepared, float32_bytes, prepare_program
from export.program.program import ReferenceProgram
from export.program.run import take_inputs
from export.report import ActivationReport, Report, WeightReport, describe_stored
from export.rewrite import compare_rewritten
from export.runner import check_inputs
from export.stored_network import stored_network
from export.stored_program import stored_program

logger = logging.getLogger(__name__)

MISMATCH = "published although parity does not hold"
UNUSED = StoredWeight("unused", "", 0, "")
"""A weight that the network does not compute with."""


@autocast_off()
def publish(
    backend: Backend, model: nn.Module, example_inputs: Inputs, path: Path, request: ExportRequest
) -> Report[Any]:
    """Write a network as a file of a backend. An autocast around the call is switched off: files compute in float32.

    Args:
        backend: Writes and checks the file.
        model: Attached with `codeq.attach`; or plain: then a float file, and for int8 a copy is compressed at 8 bits.
            Not changed.
        example_inputs: One small batch, of which the first dimension of every tensor counts the inputs.
        path: Target.
        request: Of the backend's own kind.

    Raises:
        ExportError: Something is not installed, or the network or an option cannot be exported.
        OutputError: The target exists (without `force`), or cannot be written.
        CalibrationError: No inputs, or a tensor without a usable range.
        ParityError: The file does not compute what the network does; nothing was published (without `accept_mismatch`,
            which logs a warning instead).
    """
    backend.require()
    request.check()
    output = check_writable(path, force=request.force)
    example_inputs = _take(model, example_inputs, request.batch_size)
    compressed = compress_plain(model, example_inputs, request.quantization)
    quantization = request.quantization
    if compressed is not None:
        model, quantization = compressed.network, compressed.quantization
    network, channels = _without_dead_channels(model, example_inputs, request)
    prepared = prepare_program(
        network,
        example_inputs,
        quantization,
        check_inputs=request.check_inputs,
        open_batch=request.open_batch,
        keep_state=request.keep_state,
        quantize_outputs=request.quantize_outputs,
    )
    prepared.program.removed_channels = channels.removed
    replaced = output.exists()
    with staging_folder(output, replace=request.force) as folder:
        staged = folder / output.name
        written = backend.write(prepared, request, staged)
        for name in written.companions:
            check_writable(output.parent / name, force=request.force)
        stored = backend.read(staged)
        verdict = check_stored(backend, stored, network, prepared.inputs, prepared.program)
        notes = written.notes
        if not verdict.ok:
            if not request.accept_mismatch:
                raise ParityError(verdict)
            backend.record_mismatch(staged, verdict.first_failure)
            notes = (*notes, f"{MISMATCH}: {verdict.first_failure}")
            logger.warning("%s: %s: %s", output, MISMATCH, verdict.first_failure)
        size_bytes = sum(file.stat().st_size for file in backend.files(staged))
    if replaced:
        for name in written.stale:
            (output.parent / name).unlink(missing_ok=True)
    program = prepared.program
    if compressed is not None:
        notes = (*notes, compressed.note)
        signal: NetworkSignal | None = compressed.signal
    else:
        signal = weight_signal(model, prepared.held, prepared.names, stored.fixed_batch)
    return Report(
        backend=backend.name,
        path=output,
        size_bytes=size_bytes,
        float32_bytes=float32_bytes(model),
        weights=_weight_reports(prepared, written),
        verdict=verdict,
        folded_batch_norms=prepared.folded_batch_norms,
        skipped_folds=program.skipped_folds,
        activations=_activation_report(program, request),
        details=written.details(size_bytes),
        notes=(*notes, *map(_dropped_note, dropped_writes(program.exported))),
        compressed=None if compressed is None else compressed.network,
        untrained="" if compressed is not None else untrained_warning(signal),
        weight_signal=signal,
        channels=channels,
    )


def _without_dead_channels(model: nn.Module, inputs: Inputs, request: ExportRequest) -> Shrunk:
    if request.keep_dead_channels or request.keep_state:
        return Shrunk(model, NOTHING_SHRUNK)
    if not all(bool(weight.original.isfinite().all()) for weight in quantized_weights(model)):
        return Shrunk(model, NOTHING_SHRUNK)  # `prepare_program` says more
    return shrink(model, inputs, fold_constants=request.quantization.activations != "int8")


def check_stored(
    backend: Backend,
    stored: StoredFile,
    model: nn.Module,
    inputs: Inputs,
    program: ReferenceProgram | None = None,
    on_progress: OnProgress = lambda share, detail: None,
) -> Verdict:
    """Hold a file that was read against its network.

    Args:
        backend: Of the file.
        stored: From its `read`.
        model: The network; run in eval mode, its modes and buffers left as they were.
        inputs: Held inputs, batch first; fewer than a batch are repeated.
        program: What the file was made from; None rebuilds it from the network and the file's own grids.
        on_progress: Called with the share done, 0 to 1, and what was just finished.

    Returns:
        The verdict; a violated contract is a verdict, not an exception.

    Raises:
        ExportError: The file does not take these inputs or cannot be run; the network's outputs have no batch dimension
            or depend on the batch; or there are no inputs.
    """
    tensors, names = take_inputs(model, inputs)
    runner = backend.open_runner(stored.path)
    runner.open()
    check_inputs(runner, stored.path, tensors, names)
    del runner
    metadata = stored.metadata
    state = [tensor.input for tensor in metadata.state]
    held = hold_inputs(model, inputs, fixed_batch=stored.fixed_batch, state=state)
    with eval_mode(model), torch.no_grad():
        if program is None or metadata.activations is None:
            program = stored_program(stored, model, join_inputs(held.inputs, held.names))
        return backend.check(stored, model, held, program, on_progress)


@autocast_off()
def check_parity(
    path: str | os.PathLike[str],
    model: nn.Module,
    inputs: Inputs,
    *,
    strict: bool = False,
    on_progress: OnProgress = lambda share, detail: None,
) -> Verdict:
    """Hold a file of any backend against its network. An autocast around the call is switched off.

    Args:
        path: A file written by an export.
        model: The network it was made from, attached; run in eval mode, its modes left as they were.
        inputs: Held inputs, batch first: one tensor, several in the order of the network's arguments, or by their
            names. Fewer than a batch are repeated.
        strict: What says nothing about what the file computes fails too, such as versions of packages or the order of
            nodes; and all else of a file that other versions wrote.
        on_progress: Called with the share done, 0 to 1, and what was just finished.

    Returns:
        The verdict; a violated contract is a verdict, not an exception.

    Raises:
        ExportError: The file cannot be opened, is not ours, or does not take these inputs; the network's outputs have
            no batch dimension or depend on the batch; or there are no inputs.

    Examples:
        assert check_parity("net.onnx", model, images).ok
    """
    inputs = _take(model, inputs)
    source = Path(path)
    backend = backend_of(source)
    stored = backend.read(source)
    if stored.metadata.activations is not None and not any(True for _ in quantized_weights(model)):
        raise ExportError(
            f"{path}: has quantized weights, and the network has none; hold it against the network it was made from: "
            "attached, or `compressed` of the report where the export has compressed a plain one"
        )
    model = stored_network(stored, model, inputs)
    verdict = check_stored(backend, stored, model, inputs, on_progress=on_progress)
    return add_comparison(verdict, stored, compare_rewritten(backend, stored, model, inputs, strict=strict))


def add_comparison(verdict: Verdict, stored: StoredFile, comparison: FileComparison) -> Verdict:
    """Add to the verdict on a file how it differs from what is written for its network."""
    if verdict.ok and stored.metadata.mismatch:
        text = f"metadata: says that parity does not hold, and it does: {stored.metadata.mismatch}"
        comparison = replace(comparison, differences=(*comparison.differences, Difference(printable(text), "strict")))
    return replace(verdict, file=comparison)


def _take(model: nn.Module, inputs: Inputs, count: int | None = None) -> Inputs:
    tensors, names = take_inputs(model, inputs)
    return join_inputs(tuple(tensor[:count] for tensor in tensors), names)


def _dropped_note(name: str) -> str:
    return f"{name}: forward writes it and no output reads it; the file leaves it out"


def _weight_reports(prepared: Prepared, written: Written) -> tuple[WeightReport, ...]:
    reports = []
    for record in prepared.program.weights.values():
        stored = written.weights.get(record.name, UNUSED)
        reports.append(
            describe_stored(
                record,
                prepared.encodings[record.name],
                storage=stored.storage,
                storage_reason=stored.reason,
                size_bytes=stored.size_bytes,
                lowering=stored.lowering,
            )
        )
    return tuple(reports)


def _activation_report(program: ReferenceProgram, request: ExportRequest) -> ActivationReport | None:
    if program.activations is None:
        return None
    return ActivationReport(
        ranges=request.quantization.source,
        tensors=len(program.activations.encodings),
        largest_code=program.largest_code(),
        exclude=program.activations.exclude,
    )
