"""Lower a reference program to an ONNX graph: every quantized weight becomes int8 codes behind one DequantizeLinear.

    dequantize(codes, scale)         ->  DequantizeLinear(codes, scale)                               exact
    dequantize(codes, scale, shift)  ->  values + shift * Sign(values), values = DequantizeLinear     exact

Both compute in float32 what PyTorch computes, product by product and sum by sum, so weights are equal bit for bit.
Everything else goes through torch's own exporter.
"""

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
import onnx_ir as ir
import torch
from onnx_ir.passes import common as passes
from onnxscript import opset18 as op

from codeq.errors import first_line
from codeq.graph.canonical import NEEDED_BY_ONNX
from codeq.graph.nodes import input_names, layer_names, operator_name, output_names
from codeq.graph.source_line import source_line
from codeq.graph.spell import spell_all
from codeq.toolkit.quiet import quiet_torch
from export.errors import ExportError
from export.onnx.opset import NEWEST_OPSET, lowest_opset, lowest_version, stamp_opset
from export.onnx.passes.keep_resizes_float import keep_resizes_float
from export.onnx.passes.merge_padding import merge_padding
from export.onnx.passes.pool_means import pool_means
from export.onnx.passes.push_dequantize import push_dequantize
from export.onnx.passes.weight_zero_points import add_weight_zero_points
from export.onnx.saturation import Saturation, prevent_saturation
from export.onnx.torchlib_registry import parse_once
from export.program.names import LAYER_SCOPE, codes_name
from export.program.plain_names import plain_names
from export.program.program import ReferenceProgram, WeightRecord
from export.program.space_to_depth import BLOCK

EXPORTER_OPSET = 18
"""What torch's exporter writes natively; newer ones are converted from it, older ones found by `lowest_opset`."""

REDUCTIONS = frozenset(
    f"Reduce{kind}" for kind in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
)
"""Reductions whose axes became an input at opset 18 (ReduceSum's did at 13)."""

ADAPTIVE_POOLS = {torch.ops.aten.adaptive_avg_pool1d.default: 3, torch.ops.aten.adaptive_avg_pool2d.default: 4}
"""Pools that the exporter writes as one of two dimensions, and the dimensions of their batches."""

CLEANING_PASSES = (
    passes.DeduplicateHashedInitializersPass(),
    passes.RemoveUnusedNodesPass(),
    passes.RemoveUnusedOpsetsPass(),
)


@dataclass(frozen=True, eq=False)
class LoweredProgram:
    """Holds the graph of a program, the value in it that is each quantized weight (None for one that is not used), and
    what can saturate."""

    model: ir.Model
    value_names: dict[str, str | None]
    saturation: Saturation


def lower_program(program: ReferenceProgram, *, opset: int | None = None, debug_info: bool = False) -> LoweredProgram:
    """Make the ONNX graph of a program.

    Args:
        program: Inputs are called as `input_names` says, outputs as `output_names`; one that bears the name of an input
            or of a parameter gets `_output` behind it. The weight `conv1.weight` is the value `conv1.weight`, computed
            from the initializers `conv1.weight_quantized` and `conv1.weight_scale`.
        opset: The opset to write; None takes the lowest that the graph needs.
        debug_info: Keep the documentation strings and source locations that the exporter leaves in `metadata_props`.

    Returns:
        The graph; without `debug_info` it has no metadata and no documentation strings.

    Raises:
        ExportError: An operator without a lowering, or an opset that lacks an operator.
    """
    if opset is not None and opset > NEWEST_OPSET:
        raise ExportError(f"opset {opset} is newer than {NEWEST_OPSET}, the newest that is written here")
    spell_all(program.exported, NEEDED_BY_ONNX)
    if program.activations is not None:
        add_weight_zero_points(program)
        pool_means(program)
    model = _export(program, max(opset or 0, EXPORTER_OPSET))
    value_names = _name_values(model, program)
    if program.activations is not None:
        _name_layers(model)
        merge_padding(model)
        push_dequantize(model)
        keep_resizes_float(model)
    _name_batch(model)
    _plain_reshapes(model)
    _axes_as_attributes(model)
    _contiguous_initializers(model)
    with quiet_torch():
        for clean in CLEANING_PASSES:
            model = clean(model).model
        if not debug_info:
            model = passes.ClearMetadataAndDocStringPass()(model).model
    saturation = prevent_saturation(model, program)
    lowest, needed_by = lowest_opset(model.graph)
    if opset is not None and opset < lowest:
        raise ExportError(
            f"opset {opset} lacks {needed_by}, which needs opset {lowest}; use --opset {lowest} or leave it out"
        )
    stamp_opset(model, opset or lowest)
    model.graph.name = "codeq"
    model.producer_name, model.producer_version = "codeq", ""
    return LoweredProgram(model, value_names, saturation)


def _export(program: ReferenceProgram, opset: int) -> ir.Model:
    lowerings: dict[Callable[..., Any], Callable[..., Any]] = {
        torch.ops.codeq.dequantize.default: _lower_dequantize,
        torch.ops.codeq.quantize.default: _lower_quantize,
        torch.ops.codeq.keep_float.default: _lower_keep_float,
        torch.ops.codeq.space_to_depth.default: _lower_space_to_depth,
        torch.ops.aten.adaptive_avg_pool2d.default: _lower_adaptive_average_pool,
        torch.ops.aten.log_sigmoid.default: _lower_log_sigmoid,
    }
    if not _only_global_pooling(program):
        # torch's own lowering knows which other output sizes have a fixed window.
        del lowerings[torch.ops.aten.adaptive_avg_pool2d.default]
    inputs = input_names(program.exported)
    taken = {*inputs, *program.exported.state_dict, *(record.name for record in program.weights.values())}
    outputs = [name if name not in taken else f"{name}_output" for name in output_names(program.exported)]
    try:
        with quiet_torch(), parse_once(), plain_names(program.exported) as renamed:
            exported = torch.onnx.export(
                program.exported,
                dynamo=True,
                opset_version=opset,
                custom_translation_table=lowerings,
                input_names=list(inputs),
                output_names=outputs,
                verbose=False,
            )
    except Exception as error:  # the exporter wraps many types; what the user needs is the operator's name
        raise ExportError(_exporter_reason(error, program)) from error
    assert exported is not None
    for name, plain in renamed.items():
        if plain in exported.model.graph.initializers:
            exported.model.graph.initializers[plain].name = name
    return exported.model


def _lower_dequantize(codes: Any, scale: Any, shift: Any | None, axis: int, zero_point: Any | None = None) -> Any:
    operands = (codes, scale) if zero_point is None else (codes, scale, zero_point)
    values = op.DequantizeLinear(*operands, axis=axis) if len(scale.shape) else op.DequantizeLinear(*operands)
    if shift is None:
        return values
    return op.Add(values, op.Mul(op.Sign(values), shift))


def _lower_quantize(x: Any, scale: Any, zero_point: Any) -> Any:
    return op.QuantizeLinear(x, scale, zero_point)


def _lower_keep_float(x: Any) -> Any:
    """Keep onnxruntime off a layer that is to stay float, by a Sum of one summand.

    It would take such a layer for one left out by oversight: quantize its weight to 8 bits and its bias on the way
    (WeightBiasQuantization), or make an integer kernel of it.
    """
    return op.Sum(x)


def _lower_space_to_depth(x: Any) -> Any:
    return op.SpaceToDepth(x, blocksize=BLOCK)


def _lower_log_sigmoid(x: Any) -> Any:
    """Write a form that does not underflow; torch's own takes the logarithm of a sigmoid, which is 0 below -103."""
    return op.Neg(op.Softplus(op.Neg(x)))


def _lower_adaptive_average_pool(x: Any, output_size: Any) -> Any:
    return op.GlobalAveragePool(x)


def _only_global_pooling(program: ReferenceProgram) -> bool:
    return all(
        set(node.args[1]) == {1} and node.args[0].meta["val"].ndim == ADAPTIVE_POOLS[node.target]
        for node in program.exported.graph.nodes
        if node.target in ADAPTIVE_POOLS
    )


def _name_values(model: ir.Model, program: ReferenceProgram) -> dict[str, str | None]:
    """Name each weight as PyTorch does, and its initializers after it; says under which name each is in the graph.

    The exporter merges equal weights (tied ones, or two layers of zeros): the later then goes by the earlier's name.
    """
    initializers = model.graph.initializers
    named: list[WeightRecord] = []
    value_names: dict[str, str | None] = {}
    for state, record in program.weights.items():
        codes = initializers.get(state)
        if codes is None:
            value_names[record.name] = next((other.name for other in named if _equal(other, record)), None)
            continue
        for dequantize in list(codes.consumers()):
            weight, scale = dequantize.outputs[0], dequantize.inputs[1]
            assert scale is not None
            if record.encoding.shift is not None:
                sign = next(user for user in weight.consumers() if user.op_type == "Sign")
                (product,) = (user for user in sign.outputs[0].consumers() if user.op_type == "Mul")
                shift = product.inputs[1]
                assert shift is not None
                shift.name = f"{record.name}_shift"
                weight = next(user for user in product.outputs[0].consumers() if user.op_type == "Add").outputs[0]
            weight.name = record.name
            scale.name = f"{record.name}_scale"
        codes.name = codes_name(record.name)
        value_names[record.name] = record.name
        named.append(record)
        layer = record.name.rpartition(".")[0]
        bias = initializers.get(f"{layer}.folded_bias".lstrip("."))
        if bias is not None and f"{layer}.bias".lstrip(".") not in initializers:
            bias.name = f"{layer}.bias".lstrip(".")
    return value_names


def _name_layers(model: ir.Model) -> None:
    """Name the nodes of a layer, and its quantized output, after the layer: onnxruntime's fused nodes keep the name.

    Before: Conv node_conv2d -> QuantizeLinear -> quantize       After: Conv conv1 -> QuantizeLinear -> conv1_quantized
    """
    taken: set[str] = set()
    for node in model.graph:
        scopes = ast.literal_eval(node.metadata_props.get("pkg.torch.onnx.name_scopes", "[]"))
        name = scopes[-2].removeprefix(LAYER_SCOPE) if len(scopes) > 1 and scopes[-2].startswith(LAYER_SCOPE) else ""
        if node.op_type == "QuantizeLinear":
            codes = node.outputs[0]
            codes.name = codes_name(name)
            for reader in codes.consumers():
                if not reader.outputs[0].is_graph_output():
                    reader.outputs[0].name = f"{name}_dequantized"
        elif name:
            node.name = name if name not in taken else f"{name}/{node.op_type}"
            taken.add(name)


def _equal(first: WeightRecord, second: WeightRecord) -> bool:
    one, other = first.encoding, second.encoding
    if one.codes.shape != other.codes.shape or one.axis != other.axis or (one.shift is None) != (other.shift is None):
        return False
    pairs = [(one.codes, other.codes), (one.scale, other.scale), (one.shift, other.shift)]
    return all(a is b or (a is not None and b is not None and torch.equal(a, b)) for a, b in pairs)


def _name_batch(model: ir.Model) -> None:
    """Call the open dimension `batch`: torch's exporter names it after its own symbols (`s77`)."""
    symbols = {str(value.shape[0].value) for value in model.graph.inputs if value.shape and _is_open(value.shape[0])}
    if len(symbols) != 1:
        return
    pattern = re.compile(rf"\b{re.escape(symbols.pop())}\b")
    for value in (*model.graph.inputs, *model.graph.outputs):
        if value.shape is not None:
            value.shape = ir.Shape([pattern.sub("batch", str(d.value)) if _is_open(d) else d for d in value.shape])


def _is_open(dimension: int | ir.SymbolicDim) -> TypeGuard[ir.SymbolicDim]:
    return isinstance(dimension, ir.SymbolicDim) and dimension.value is not None


def _plain_reshapes(model: ir.Model) -> None:
    """Drop `allowzero` where no zero is asked for: it is all that keeps such a Reshape from opset 13."""
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if node.op_type == "Reshape" and len(node.inputs) > 1 and node.inputs[1] is not None:
            shape = node.inputs[1].const_value
            if shape is not None and (shape.numpy() != 0).all():
                node.attributes.pop("allowzero", None)


def _axes_as_attributes(model: ir.Model) -> None:
    """Give constant axes of a reduction as the attribute they were before opset 18, when an older opset will do.

    Before: ReduceMean(x, axes)          After: ReduceMean<axes>(x), valid at opsets 13 to 17
    Only where nothing else keeps the graph at opset 18: there the attribute is gone.
    """
    reductions = [
        node
        for node in ir.traversal.RecursiveGraphIterator(model.graph)
        if node.op_type in REDUCTIONS and node.domain == ""
    ]
    axes = [node.inputs[1].const_value if len(node.inputs) > 1 and node.inputs[1] else None for node in reductions]
    if any(value is None for value in axes) or model.opset_imports[""] > EXPORTER_OPSET:
        return
    others = [node for node in ir.traversal.RecursiveGraphIterator(model.graph) if node not in reductions]
    if any(lowest_version(node, model.opset_imports[""]) >= EXPORTER_OPSET for node in others):
        return
    for node, value in zip(reductions, axes, strict=True):
        assert value is not None
        node.resize_inputs(1)
        node.attributes["axes"] = ir.AttrInt64s("axes", [int(axis) for axis in value.numpy()])
        node.attributes.pop("noop_with_empty_axes", None)
    if reductions:
        model.opset_imports[""] = EXPORTER_OPSET - 1


def _contiguous_initializers(model: ir.Model) -> None:
    """Copy the tensors that are views in another order, which onnx_ir cannot hash.

    A float Linear's weight on more than two dimensions is transposed as a constant; channels_last weights stay so.
    """
    for graph in model.graphs():
        for value in graph.initializers.values():
            tensor = value.const_value
            array = None if tensor is None else tensor.numpy()
            if tensor is not None and array is not None and not array.flags.c_contiguous:
                value.const_value = ir.Tensor(np.ascontiguousarray(array), dtype=tensor.dtype, name=tensor.name)


def _exporter_reason(error: BaseException, program: ReferenceProgram) -> str:
    """The operator, its place and the innermost cause in one line: the exporter nests its own report around them."""
    operator = ""
    while error.__cause__ is not None:
        found = re.search(r"target=torch\.ops\.(\w+\.(\w+)[\w.]*)", str(error))
        operator = f"{found[1]}{_place(found[2], program)}: " if found else operator
        error = error.__cause__
    return f"torch.onnx.export cannot lower the network: {operator}{first_line(error)}"


def _place(operator: str, program: ReferenceProgram) -> str:
    """Where a network uses an operator; the exporter may have decomposed it into one of a similar name."""
    names = layer_names(program.exported.graph)
    found = [(name, source_line(node)) for node, name in names.items() if operator in operator_name(node)]
    places = [f"{name} in {line}" if line else name for name, line in found]
    return f" (at {', '.join(places[:3])})" if places else ""
