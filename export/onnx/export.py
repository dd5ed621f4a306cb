"""Export to ONNX: `python -m export.onnx ckpt.pt`, and `export_onnx` for a live module.

checkpoint -> encodings -> reference program -> ONNX graph -> storage of weights -> file -> parity -> published.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxscript
import torch
from onnx import TensorProto
from torch import nn

from codeq.activations.encoding import ActivationEncoding
from codeq.activations.ranges import Method
from codeq.graph.autocast import autocast_off
from codeq.graph.inputs import Inputs
from codeq.quantizer.grid import WeightEncoding
from codeq.toolkit.files import check_writable, staging_folder
from export.errors import ExportError, ParityError
from export.metadata import describe_weight, metadata_props
from export.onnx.lower import lower_program
from export.onnx.opset import installed_onnxruntime, oldest_onnxruntime
from export.onnx.storage.plan import PACKING, STORAGES, Storage, StoragePlan, plan_storage
from export.onnx.storage.target import TARGETS
from export.onnx.storage.weight import CodedWeight
from export.onnx.storage.write import store_weights
from export.onnx.stored_weight import float_weights
from export.onnx.verify import check_parity
from export.parity.report import ActivationReport, Report, WeightReport, describe_stored
from export.program.prepare import Activations, check_choices, float32_bytes, prepare_program
from export.program.program import ReferenceProgram

SUFFIX = ".onnx"
EXTERNAL_DATA_THRESHOLD = 1_800_000_000
"""Bytes of initializers above which they go into a file beside the model: a protobuf message ends at 2^31 - 1."""
SMALLEST_EXTERNAL = 1024
"""Bytes; smaller tensors stay in the model: shapes among them are read by onnx's shape inference."""
DEFAULT_TARGET = "onnxruntime"


@autocast_off()
def export_onnx(
    model: nn.Module,
    example_inputs: Inputs,
    path: str | os.PathLike[str],
    *,
    storage: Storage = "auto",
    target: str = DEFAULT_TARGET,
    debug_info: bool = False,
    opset: int | None = None,
    force: bool = False,
    check_inputs: Inputs | None = None,
    dynamic_batch: bool = True,
    preprocessing: dict[str, list[float]] | None = None,
    checkpoint_sha256: str | None = None,
    external_data_threshold: int = EXTERNAL_DATA_THRESHOLD,
    activations: Activations = "float32",
    calibration: Inputs | None = None,
    ranges: Method = "mse",
    activations_except: Sequence[str] = (),
    activation_encodings: Mapping[str, ActivationEncoding] | None = None,
) -> Report:
    """Write a network as an ONNX file whose weights are exactly those it was trained with.

    The lowering of weights is exact. With float32 activations, outputs differ from PyTorch's by the order of float32
    sums and by the folding of BatchNorm, which together the parity check bounds. With int8 activations the file
    computes what the integer reference does, bit for bit in integer kernels; against the float network each quantized
    tensor is off by half a step, plus what saturates. The file appears under its name only after the check held.
    An autocast around the call is switched off: files compute in float32.

    The file's inputs are called `input` where the network takes one tensor, else as its arguments; its outputs `output`
    or `output_0`, `output_1`, ..., or by the keys of a mapping or the fields of a dataclass that the network returns
    (Hugging Face's `ModelOutput`), without those that are None.

    Args:
        model: Attached with `codeq.attach` (or plain: then a float file). Not changed.
        example_inputs: One small batch, of which the first dimension of every tensor counts the inputs: a tensor, a
            tuple in the order of the network's arguments, or a mapping of argument names to tensors (what torch.export
            and torch.onnx.export take as `kwargs`; a tokenizer's result as it is). Float, integer or boolean.
        path: Target. With external data, `<path>.data` appears beside it.
        storage: "auto" stores each weight as `sparse_initializer` exactly where that is smaller, "dense" never,
            "sparse" always. "packed" takes the smallest of all encodings that load quickly, "smallest" of all
            encodings; onnxruntime decodes them to the same codes when it creates a session.
        target: What has to open the file, a name of `export.onnx.storage.target.TARGETS`.
        debug_info: Keep the exporter's documentation strings and source locations in the file.
        opset: None takes the lowest that the graph needs.
        force: Overwrite.
        check_inputs: Held inputs for the parity check, in the same form; None takes `example_inputs`.
        dynamic_batch: Leave the batch size open.
        preprocessing, checkpoint_sha256: Recorded in the file.
        external_data_threshold: Bytes of plain initializers above which they are stored beside the model; encoded
            weights stay in it.
        activations: "float32", or "int8" for integer kernels: uint8 activations, int32 biases.
        calibration: Inputs whose activations give the ranges, in the same form; None takes `example_inputs`.
        ranges: "mse", "percentile" or "min-max": how a range is chosen from what calibration gives.
        activations_except: Layers that stay float: names, globs, `re:` expressions or types such as `Linear`.
        activation_encodings: Scales and zero points by tensor name, as training stored them, instead of calibration.

    Returns:
        What was written, and its parity verdict.

    Raises:
        ExportError: The network or an option cannot be exported; so a network with an autocast of its own.
        OutputError: The target exists (without `force`), or cannot be written.
        CalibrationError: No inputs, or a tensor without a usable range.
        ParityError: The file does not compute what the network does; nothing was published.

    Example:
        report = export_onnx(model, (torch.zeros(1, 3, 32, 32),), "net.onnx")
        print(report)
    """
    if storage not in STORAGES:
        raise ExportError(f"storage {storage!r}, expected one of {', '.join(STORAGES)}")
    if target not in TARGETS:
        raise ExportError(f"target {target!r}, expected one of {', '.join(TARGETS)}")
    check_choices(activations, ranges)
    output = check_writable(path, force=force)
    runtime = TARGETS[target]
    if storage == "sparse" and not runtime.sparse_initializers:
        raise ExportError(f"--target {target} takes no sparse_initializer; choose another --storage")
    if opset is not None and runtime.max_opset is not None and opset > runtime.max_opset:
        raise ExportError(f"--target {target} opens files up to opset {runtime.max_opset}, found --opset {opset}")
    prepared = prepare_program(
        model,
        example_inputs,
        check_inputs=check_inputs,
        dynamic_batch=dynamic_batch,
        activations=activations,
        calibration=calibration,
        ranges=ranges,
        activations_except=activations_except,
        activation_encodings=activation_encodings,
    )
    program, encodings = prepared.program, prepared.encodings
    graph = lower_program(program, opset=opset, debug_info=debug_info)
    graph.metadata_props.update(
        metadata_props(
            [describe_weight(record) for record in program.weights.values()],
            checkpoint_sha256=checkpoint_sha256,
            preprocessing=preprocessing or {},
            versions={
                "torch": str(torch.__version__),
                "onnx": onnx.__version__,
                "onnxscript": onnxscript.__version__,
                "onnxruntime": installed_onnxruntime(),
            },
            activations=program.activations,
            storage=storage,
            target=target,
        )
    )
    opset_version = graph.opset_imports[""]
    if runtime.max_opset is not None and opset_version > runtime.max_opset:
        raise ExportError(f"the network needs opset {opset_version}; --target {target} ends at {runtime.max_opset}")
    weights = _coded_weights(graph, program)
    plan = plan_storage(weights, storage, runtime, opset_version)
    packed = plan if storage in PACKING else plan_storage(weights, "packed", runtime, opset_version)

    data = output.parent / _data_name(output)
    kept = [value for name, value in graph.graph.initializers.items() if not plan.moves(name)]
    external = sum(value.const_value.nbytes for value in kept if value.const_value) > external_data_threshold
    if external:
        check_writable(data, force=force)
    replaced = output.exists()
    with staging_folder(output) as folder:
        staged = folder / output.name
        ir_version, floats = _write(graph, weights, plan, staged, external=external)
        external = (folder / _data_name(output)).exists()
        del graph, kept, weights  # the check needs the memory
        verdict = check_parity(staged, model, prepared.inputs, program=program)
        if not verdict.ok:
            raise ParityError(verdict)
        size_bytes = sum(file.stat().st_size for file in folder.iterdir())

    if replaced and not external:
        data.unlink(missing_ok=True)  # of the file that was just overwritten
    return Report(
        path=output,
        size_bytes=size_bytes,
        float32_bytes=float32_bytes(model),
        opset=opset_version,
        ir_version=ir_version,
        oldest_onnxruntime=oldest_onnxruntime(
            opset_version, functions=bool(plan.functions), decoders=bool(plan.transient_bytes)
        ),
        weights=_weight_reports(program, encodings, plan),
        float_weights=floats,
        storage=storage,
        decoder_bytes=plan.once_bytes,
        transient_bytes=plan.transient_bytes,
        packed_bytes=size_bytes - plan.size_bytes + packed.size_bytes,
        verdict=verdict,
        folded_batch_norms=prepared.folded_batch_norms,
        skipped_folds=program.skipped_folds,
        external_data=_data_name(output) if external else None,
        activations=None if program.activations is None else _activation_report(program, activation_encodings, ranges),
    )


def _coded_weights(graph: ir.Model, program: ReferenceProgram) -> dict[str, CodedWeight]:
    """The codes in a graph by the name of their initializer."""
    names = [f"{record.name}_quantized" for record in program.weights.values()]
    values = {name: graph.graph.initializers[name].const_value for name in names if name in graph.graph.initializers}
    return {name: CodedWeight(np.asarray(value.numpy())) for name, value in values.items() if value is not None}


def _write(
    graph: ir.Model, weights: Mapping[str, CodedWeight], plan: StoragePlan, staged: Path, *, external: bool
) -> tuple[int, dict[str, int]]:
    """Write a graph with its weights stored as planned; returns the file's IR version and its `float_weights`.

    Initializers of an `external` file that stay dense go into `<name>.data`, encoded ones stay in the model.
    """
    moved = [name for name in plan.choices if plan.moves(name)]
    for name in moved:
        graph.graph.initializers.pop(name)
    if external:
        ir.save(graph, staged, external_data=_data_name(staged), size_threshold_bytes=SMALLEST_EXTERNAL)
        proto = onnx.load(staged, load_external_data=False)
        if not any(tensor.external_data for tensor in proto.graph.initializer):
            staged.with_name(_data_name(staged)).unlink(missing_ok=True)  # every large tensor was encoded
    else:
        proto = ir.to_proto(graph)
    del proto.graph.value_info[:]  # shapes of intermediates: every runtime infers them
    for tensor in proto.graph.initializer:
        # int8 in int32_data takes up to ten bytes a value.
        assert tensor.HasField("raw_data") or tensor.external_data, tensor.name
    # What onnx's full check cannot look into, sparse initializers and functions, it takes as inputs of their shape.
    inputs = [onnx.helper.make_tensor_value_info(name, TensorProto.INT8, weights[name].shape) for name in moved]
    proto.graph.input.extend(inputs)
    _check(proto, staged, external=external, full_check=True)
    del proto.graph.input[len(proto.graph.input) - len(inputs) :]
    floats = float_weights(proto.graph, (name.removesuffix("_quantized") for name in weights))
    store_weights(proto, weights, plan)
    _check(proto, staged, external=external, full_check=False)
    if not external:
        staged.write_bytes(proto.SerializeToString(deterministic=True))
    return int(proto.ir_version), floats


def _check(proto: onnx.ModelProto, staged: Path, *, external: bool, full_check: bool) -> None:
    """onnx's checker, which reads a model with external data from the file."""
    if external:
        staged.write_bytes(proto.SerializeToString(deterministic=True))
    onnx.checker.check_model(staged if external else proto, full_check=full_check)


def _weight_reports(
    program: ReferenceProgram, encodings: dict[str, WeightEncoding], plan: StoragePlan
) -> tuple[WeightReport, ...]:
    reports = []
    for record in program.weights.values():
        choice = plan.choices.get(f"{record.name}_quantized")
        elsewhere = "unused" if record.value_name is None else "shared"
        reports.append(
            describe_stored(
                record,
                encodings[record.name],
                storage=elsewhere if choice is None else choice.codec,
                storage_reason="" if choice is None else choice.reason,
                size_bytes=0 if choice is None else choice.size_bytes,
                lowering="DequantizeLinear" if record.encoding.shift is None else "DequantizeLinear + shift * Sign",
            )
        )
    return tuple(reports)


def _activation_report(
    program: ReferenceProgram, stored: Mapping[str, ActivationEncoding] | None, ranges: Method
) -> ActivationReport:
    assert program.activations is not None
    codes = [record.encoding.codes for record in program.weights.values()]
    return ActivationReport(
        ranges="learned in training" if stored is not None else ranges,
        tensors=len(program.activations.encodings),
        largest_code=max((int(tensor.abs().max()) for tensor in codes if tensor.numel()), default=0),
        exclude=program.activations.exclude,
    )


def _data_name(target: Path) -> str:
    return f"{target.name}.data"
