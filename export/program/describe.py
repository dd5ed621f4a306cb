"""This module makes the metadata of a file from its program, whatever the file's format."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from codeq.graph.state import state_tensors
from export.metadata import StateMetadata, WeightMetadata, metadata_props
from export.options import ExportRequest
from export.program.program import ReferenceProgram, WeightRecord


def describe_program(
    program: ReferenceProgram,
    request: ExportRequest,
    value_names: Mapping[str, str | None],
    *,
    versions: Mapping[str, str],
    storage: str,
    target: str,
    session_options: Mapping[str, str] | None = None,
    layout: Mapping[str, Any] | None = None,
    state_outputs: Sequence[str] = (),
) -> dict[str, str]:
    """Make the metadata of a file.

    Args:
        program: As it was lowered.
        request: For what is recorded of the checkpoint.
        value_names: The value in the file that is each weight, by the weight's name; None or missing where the network
            does not use it.
        versions: Of the packages that wrote the file, beside ours and PyTorch.
        storage, target, session_options, layout: As for `metadata_props`.
        state_outputs: What the file calls the outputs that are state, in the program's order.
    """
    activations = program.activations
    return metadata_props(
        [describe_weight(record, value_names.get(record.name)) for record in program.weights.values()],
        checkpoint_sha256=request.checkpoint_sha256,
        preprocessing=request.preprocessing or {},
        labels=request.labels,
        versions={"torch": str(torch.__version__), **versions},
        activations=None if activations is None else activations.encodings,
        activations_except=() if activations is None else activations.exclude,
        activations_too_wide={} if activations is None else activations.too_wide,
        options=request.options,
        removed_channels=program.removed_channels,
        calibration={} if activations is None else request.quantization.record(describe_machine()),
        storage=storage,
        target=target,
        session_options=session_options,
        layout=layout,
        state=[
            StateMetadata.of(name, output, value.numpy())
            for (name, value), output in zip(state_tensors(program.exported).items(), state_outputs, strict=True)
        ],
    )


def describe_machine() -> dict[str, Any]:
    """Say what the order of float sums depends on: a grid may move by a bit with it."""
    return {"cpu": torch.backends.cpu.get_cpu_capability(), "threads": torch.get_num_threads()}


def describe_weight(record: WeightRecord, value_name: str | None) -> WeightMetadata:
    """Describe one weight as it is stored, under the name of the value that holds it."""
    encoding = record.encoding
    return WeightMetadata(
        name=record.name,
        value_name=value_name,
        batch_norm=record.batch_norm,
        axis=encoding.axis,
        bit_width=encoding.bit_width,
        quant_max=encoding.quant_max,
        multiplier=encoding.multiplier,
        offset=encoding.offset,
        shifted=encoding.shift is not None,
        space_to_depth=record.space_to_depth,
        codes_sha256=hashlib.sha256(encoding.codes.contiguous().numpy().tobytes()).hexdigest(),
    )
