"""A program becomes an ONNX file: lowered, its weights stored as planned, checked by onnx, written."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxscript
from onnx import TensorProto

from codeq.graph.state import state_tensors
from export.backend import StoredWeight, Written
from export.errors import ExportError
from export.onnx.details import OnnxDetails
from export.onnx.lower import lower_program
from export.onnx.opset import installed_onnxruntime, oldest_onnxruntime
from export.onnx.options import OnnxRequest
from export.onnx.saturation import Saturation
from export.onnx.sessions import EXACT_SESSION_OPTIONS, INTEGER_SESSION_OPTIONS
from export.onnx.storage.kinds import PACKING
from export.onnx.storage.plan import StoragePlan, plan_storage
from export.onnx.storage.target import TARGETS
from export.onnx.storage.weight import CodedWeight
from export.onnx.storage.write import store_weights
from export.onnx.stored_weight import float_weights
from export.program.describe import describe_program
from export.program.names import codes_name, plain_name
from export.program.prepare import Prepared
from export.program.program import ReferenceProgram

SMALLEST_EXTERNAL = 1024
"""Bytes; smaller tensors stay in the model: shapes among them are read by onnx's shape inference."""


def write_onnx(prepared: Prepared, request: OnnxRequest, staged: Path) -> Written:
    """Lower a program and write it.

    Args:
        prepared: The program.
        request: What was asked for.
        staged: Where to write; external data goes beside it.

    Raises:
        ExportError: An operator without a lowering, or an opset that the target does not open.
    """
    program, runtime = prepared.program, TARGETS[request.target]
    lowered = lower_program(program, opset=request.opset, debug_info=request.debug_info)
    graph = lowered.model
    state = state_tensors(program.exported)
    state_outputs = tuple(str(value.name) for value in graph.graph.outputs[len(graph.graph.outputs) - len(state) :])
    graph.metadata_props.update(
        describe_program(
            program,
            request,
            lowered.value_names,
            versions={
                "onnx": onnx.__version__,
                "onnxscript": onnxscript.__version__,
                "onnxruntime": installed_onnxruntime(),
            },
            storage=request.storage,
            target=request.target,
            session_options=_session_options(program, lowered.saturation),
            state_outputs=state_outputs,
        )
    )
    opset = graph.opset_imports[""]
    if runtime.max_opset is not None and opset > runtime.max_opset:
        raise ExportError(f"the network needs opset {opset}; --target {request.target} ends at {runtime.max_opset}")
    weights = _coded_weights(graph, program)
    plan = plan_storage(weights, request.storage, runtime, opset)
    packed = plan if request.storage in PACKING else plan_storage(weights, "packed", runtime, opset)
    kept = [value for name, value in graph.graph.initializers.items() if not plan.moves(name)]
    plain_bytes = sum(value.const_value.nbytes for value in kept if value.const_value)
    external = plain_bytes > request.external_data_threshold
    ir_version, floats = _write(graph, weights, plan, staged, external=external)
    external = staged.with_name(_data_name(staged)).exists()
    stored = _stored_weights(program, lowered.value_names, plan)
    details = partial(
        _details,
        opset=opset,
        ir_version=ir_version,
        plan=plan,
        packed_bytes=packed.size_bytes,
        storage=request.storage,
        weight_bytes=sum(weight.size_bytes for weight in stored.values()),
        float_weights=floats,
        external_data=_data_name(staged) if external else None,
        largest_code=None if program.activations is None else program.largest_code(),
        saturation=lowered.saturation,
    )
    companion = (_data_name(staged),)
    notes = tuple(
        f"{name} is state: feed the output {output} back as the input {name}; its first value is in the metadata"
        for name, output in zip(state, state_outputs, strict=True)
    )
    return Written(stored, details, companion if external else (), () if external else companion, notes)


def _session_options(program: ReferenceProgram, saturation: Saturation) -> Mapping[str, str]:
    if program.activations is None:
        return EXACT_SESSION_OPTIONS
    return INTEGER_SESSION_OPTIONS | saturation.session_options


def _coded_weights(graph: ir.Model, program: ReferenceProgram) -> dict[str, CodedWeight]:
    """The codes in a graph by the name of their initializer."""
    names = [codes_name(record.name) for record in program.weights.values()]
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
    floats = float_weights(proto.graph, map(plain_name, weights))
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


def _stored_weights(
    program: ReferenceProgram, value_names: Mapping[str, str | None], plan: StoragePlan
) -> dict[str, StoredWeight]:
    stored = {}
    for record in program.weights.values():
        lowering = "DequantizeLinear" if record.encoding.shift is None else "DequantizeLinear + shift * Sign"
        choice = plan.choices.get(codes_name(record.name))
        if choice is not None:
            stored[record.name] = StoredWeight(choice.codec, choice.reason, choice.size_bytes, lowering)
        elif value_names.get(record.name) is not None:
            stored[record.name] = StoredWeight("shared", "", 0, lowering)
    return stored


def _details(
    size_bytes: int,
    *,
    opset: int,
    ir_version: int,
    plan: StoragePlan,
    packed_bytes: int,
    storage: str,
    weight_bytes: int,
    float_weights: dict[str, int],
    external_data: str | None,
    largest_code: int | None,
    saturation: Saturation,
) -> OnnxDetails:
    """Make the details once the file's size is known."""
    return OnnxDetails(
        opset=opset,
        ir_version=ir_version,
        oldest_onnxruntime=oldest_onnxruntime(
            opset, functions=bool(plan.functions), decoders=bool(plan.transient_bytes)
        ),
        storage=storage,
        decoder_bytes=plan.once_bytes,
        transient_bytes=plan.transient_bytes,
        packed_bytes=size_bytes - plan.size_bytes + packed_bytes,
        overhead_bytes=size_bytes - weight_bytes - sum(float_weights.values()),
        float_weights=float_weights,
        external_data=external_data,
        largest_code=largest_code,
        saturation=saturation,
    )


def _data_name(target: Path) -> str:
    return f"{target.name}.data"
