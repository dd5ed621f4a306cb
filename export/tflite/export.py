"""Export to LiteRT: `export_tflite` for a live module.

checkpoint -> encodings -> reference program -> LiteRT graph -> file -> parity -> published.
"""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import nn

from codeq.activations.encoding import ActivationEncoding
from codeq.activations.ranges import Method
from codeq.graph.autocast import autocast_off
from codeq.graph.inputs import Inputs, join_inputs
from codeq.toolkit.files import check_writable, replace_atomically
from export.errors import ParityError
from export.metadata import LITERT, describe_weight, metadata_props
from export.parity.report import WeightReport, describe_stored
from export.program.prepare import Activations, Prepared, check_choices, float32_bytes, prepare_program
from export.program.run import take_inputs
from export.tflite.build import Build
from export.tflite.file.flatbuffer import write
from export.tflite.interface import float_interface
from export.tflite.litert_torch import convert_with_codes
from export.tflite.lower import build_graph, describe_layout
from export.tflite.options import WRITER, Backend, Io, Layout, batch_sizes, check_options
from export.tflite.report import TfliteReport
from export.tflite.runtime import installed_version
from export.tflite.verify import check_parity
from export.tflite.weights.form import Sparse, WeightForms, form_notes

FLOAT_OUTPUT = "its output stays float: LiteRT's kernels on codes give codes only"


@autocast_off()
def export_tflite(
    model: nn.Module,
    example_inputs: Inputs,
    path: str | os.PathLike[str],
    *,
    layout: Layout = "nchw",
    io: Io = "float",
    sparse: Sparse = "auto",
    int4: bool = False,
    hybrid: bool = False,
    backend: Backend = WRITER,
    force: bool = False,
    check_inputs: Inputs | None = None,
    preprocessing: dict[str, list[float]] | None = None,
    checkpoint_sha256: str | None = None,
    activations: Activations = "float32",
    calibration: Inputs | None = None,
    ranges: Method = "mse",
    activations_except: Sequence[str] = (),
    activation_encodings: Mapping[str, ActivationEncoding] | None = None,
) -> TfliteReport:
    """Write a network as a .tflite file whose weights are exactly those it was trained with.

    With float32 activations each weight is int8 codes behind one DEQUANTIZE; outputs differ from PyTorch's by the order
    of float32 sums. With int8 activations the file computes on codes; the grids are those of the ONNX file, zero points
    128 less. With `hybrid` LiteRT quantizes float activations itself, and outputs are approximate. The file appears
    under its name only after the check held. Its batch is 1 until an interpreter resizes it.

    Args:
        model: Attached with `codeq.attach` (or plain: then a float file). Not changed.
        example_inputs, check_inputs, calibration: As for `export_onnx`; float32.
        path: Target.
        layout: "nchw": axes of inputs and outputs as PyTorch's; "nhwc": channels last, (N, H, W, C).
        io: "float", or "int8": inputs and outputs are codes, on the grid of the tensor. What the network does not
            quantize, such as the result of its last linear layer, stays float32. For int8 activations.
        sparse: "auto": zeros of a weight are left out where that is smaller; LiteRT puts them back when it opens the
            file. "off": never.
        int4: Weights whose codes are within -8 to 7 take two codes a byte where LiteRT reads that exactly. For size: on
            x86 convolutions are several times slower.
        hybrid: Layers of floats read the codes of their weights: fast, and approximate. For float32 activations.
        backend: "writer": this package's lowerings. "litert-torch": that converter, for what they lack; its files have
            float32 activations, dense codes and a batch of 1 that stays.
        force: Overwrite.
        preprocessing, checkpoint_sha256: Recorded in the file.
        activations, ranges, activations_except, activation_encodings: As for `export_onnx`.

    Returns:
        What was written, and its parity verdict.

    Raises:
        ExportError: LiteRT is not installed, or the network or an option cannot be exported.
        OutputError: The target exists (without `force`), or cannot be written.
        CalibrationError: No inputs, or a tensor without a usable range.
        ParityError: The file does not compute what the network does; nothing was published.

    Example:
        report = export_tflite(model, (torch.zeros(1, 3, 32, 32),), "net.tflite")
        print(report)
    """
    litert = installed_version()
    check_choices(activations, ranges)
    check_options(
        backend=backend, layout=layout, io=io, sparse=sparse, int4=int4, hybrid=hybrid, activations=activations
    )
    output = check_writable(path, force=force)
    prepared = prepare_program(
        model,
        example_inputs if backend == WRITER else _first(model, example_inputs),
        check_inputs=check_inputs,
        dynamic_batch=backend == WRITER,
        activations=activations,
        calibration=calibration,
        ranges=ranges,
        activations_except=activations_except,
        activation_encodings=activation_encodings,
    )
    if backend == WRITER:
        forms = WeightForms(sparse, int4, hybrid)
        build = build_graph(prepared.program, channels_last_io=layout == "nhwc", codes_io=io == "int8", forms=forms)
        pack: Callable[[Mapping[str, str]], bytes] = partial(write, build.graph)
        operators = [operator.code for operator in build.graph.operators]
        notes = (*(float_interface(build) if io == "int8" else ()), *form_notes(build.forms, build.stored))
    else:
        converted = convert_with_codes(prepared.program, tuple(tensor[:1] for tensor in prepared.held))
        build, pack, operators = converted.build, converted.editor.pack, converted.editor.operators()
        notes = ("converted by litert-torch: its batch is 1",)
    for record in prepared.program.weights.values():
        record.value_name = record.name if record.name in build.weights else None
    props = metadata_props(
        [describe_weight(record) for record in prepared.program.weights.values()],
        checkpoint_sha256=checkpoint_sha256,
        preprocessing=preprocessing or {},
        versions={"torch": str(torch.__version__), "ai-edge-litert": litert},
        activations=prepared.program.activations,
        storage=sparse if backend == WRITER else "dense",
        target=LITERT,
        layout={"backend": backend, **describe_layout(build)},
    )
    data = pack(props)
    with replace_atomically(output) as staged:
        staged.write_bytes(data)
        verdict = check_parity(staged, model, prepared, build, batch_sizes(backend))
        if not verdict.ok:
            raise ParityError(verdict)
    return TfliteReport(
        path=output,
        size_bytes=len(data),
        float32_bytes=float32_bytes(model),
        weights=_weight_reports(prepared, build),
        operators=dict(Counter(operators)),
        activations=activations,
        kernels=dict(build.integer),
        float_layers=_float_layers(prepared, build),
        folded_batch_norms=prepared.folded_batch_norms,
        skipped_folds=prepared.program.skipped_folds,
        verdict=verdict,
        notes=notes,
    )


def _first(model: nn.Module, inputs: Inputs) -> Inputs:
    tensors, names = take_inputs(model, inputs)
    return join_inputs(tuple(tensor[:1] for tensor in tensors), names)


def _weight_reports(prepared: Prepared, build: Build) -> tuple[WeightReport, ...]:
    reports = []
    for record in prepared.program.weights.values():
        stored = build.stored.get(record.name)
        reports.append(
            describe_stored(
                record,
                prepared.encodings[record.name],
                storage="unused" if stored is None else stored.form,
                storage_reason="" if stored is None else stored.reason,
                size_bytes=0 if stored is None else stored.size_bytes,
                lowering="" if stored is None else str(stored.reader),
            )
        )
    return tuple(reports)


def _float_layers(prepared: Prepared, build: Build) -> dict[str, str]:
    activations = prepared.program.activations
    if activations is None:
        return {}
    reasons = {layer.name: layer.reason for layer in activations.float_layers}
    for layer in activations.layers:
        if layer.name not in build.integer:
            reasons[layer.name] = FLOAT_OUTPUT if layer.operator == "linear" else "no kernel on codes is written for it"
    return reasons
