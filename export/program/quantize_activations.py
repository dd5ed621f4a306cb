"""Put activation quantizers into a reference program, where the rule table of codeq/activations/plan.py wants them.

    Before: x -> conv(weight, bias) -> relu
    After:  x -> quantize -> dequantize -> conv(weight, dequantize(int32 bias)) -> quantize -> dequantize

A clamp goes where the quantizer's saturation gives the same codes. A bias is rounded once, to a multiple of input
scale times weight scale, at most half of that away: the kernel adds it to its integer sums.
"""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial

import torch
from torch import Tensor
from torch.fx import Node

from codeq.activations.encoding import QUANT_MAX, ActivationEncoding
from codeq.activations.moves import roots
from codeq.activations.noise import measure_noise
from codeq.activations.plan import ActivationPlan, IntegerLayer, plan_activations
from codeq.activations.rules import INTEGER
from codeq.errors import AttachError, TraceError
from codeq.graph.canonical import canonicalize, merge_equal, refuse_writes
from codeq.graph.nodes import insert_call, is_constant, layer_names, replace_node, state_name
from codeq.graph.operators import CLAMPS
from export.errors import ExportError
from export.program.fold_batch_norm import CHANNEL_AXIS
from export.program.names import LAYER_SCOPE, SCOPE_KEY, codes_name
from export.program.program import (
    ActivationRecord,
    QuantizedLayer,
    ReferenceProgram,
    WeightRecord,
    add_tensor,
    constant_value,
    remove_unused_tensors,
)
from export.program.space_to_depth import rearrange_first_convolution

MADE_INTEGER = frozenset({*INTEGER, *CHANNEL_AXIS, torch.ops.aten.softmax.int})
"""Operators of which a runtime or a lowering would make integer kernels wherever they stand between codes."""
COMPARED_INPUTS = 16
"""How many inputs a program is held against its network with."""
INT32_MAX = 2**31 - 1


Replan = Callable[[Mapping[str, str], Collection[str]], ActivationPlan]
"""Makes the plan of a program from `too_wide` and `wanted` of `plan_activations`."""
Choose = Callable[[Replan], tuple[ActivationPlan, Mapping[str, ActivationEncoding]]]
"""Gives the plan of a program and the grid of every tensor in it, by name."""


def plan_program(
    program: ReferenceProgram,
    exclude: Iterable[str] = (),
    too_wide: Mapping[str, str] | None = None,
    wanted: Collection[str] = (),
    quantize_outputs: bool = False,
) -> ActivationPlan:
    """Make the plan for a canonicalized program whose BatchNorms are folded; arguments as for `plan_activations`.

    Raises:
        ExportError: A pattern of `exclude` matches nothing, or no layer can compute in integers.
    """
    try:
        plan = plan_activations(
            program.exported,
            lambda node: _refuse_weight(program, node),
            exclude=exclude,
            too_wide=too_wide,
            wanted=wanted,
            quantize_outputs=quantize_outputs,
        )
    except AttachError as error:
        raise ExportError(f"--activations-except: {error}") from error
    if not plan.layers:
        reasons = "; ".join(f"{layer.name}: {layer.reason}" for layer in plan.float_layers[:2])
        raise ExportError(f"no layer can compute in integers ({reasons}); export with float32 activations")
    return plan


def quantize_program(
    program: ReferenceProgram,
    inputs: tuple[Tensor, ...],
    choose: Choose,
    *,
    exclude: Iterable[str] = (),
    quantize_outputs: bool = False,
) -> None:
    """Quantize a program's activations, in place.

    Args:
        program: BatchNorms folded.
        inputs: What it computes with these before is kept for a comparison with its network; their number is the
            batch size where the program's is fixed.
        choose: Gives the plan, and the grid of every tensor in it.
        exclude: Layers that stay float.
        quantize_outputs: As for `plan_activations`.

    Raises:
        ExportError: See `plan_program` and `insert_quantizers`.
    """
    canonicalize(program.exported)
    merge_equal(program.exported)
    try:
        refuse_writes(program.exported)
    except TraceError as error:
        raise ExportError(str(error)) from error
    plan = plan_program(program, exclude)
    any(rearrange_first_convolution(program, layer.head) for layer in plan.layers)  # the first that fits
    float_outputs = tuple(output.numpy() for output in program.run(*inputs))
    replan = partial(plan_program, program, exclude, quantize_outputs=quantize_outputs)
    plan, encodings = choose(replan)
    _refuse_missing(plan, encodings)
    noise = _layer_noise(program, plan, encodings, inputs)
    insert_quantizers(program, plan, encodings)
    layers = tuple(QuantizedLayer(layer.name, layer.operator, layer.rule.kind) for layer in plan.layers)
    used = {name: encodings[name] for name in plan.tensors.values()}
    program.activations = ActivationRecord(
        layers, plan.float_layers, used, tuple(exclude), float_outputs, plan.too_wide, noise
    )


def _refuse_missing(plan: ActivationPlan, encodings: Mapping[str, ActivationEncoding]) -> None:
    missing = [name for name in plan.tensors.values() if name not in encodings]
    if missing:
        raise ExportError(f"{missing[0]} has no activation scale; choose ranges anew, e.g. with --ranges mse")


def _layer_noise(
    program: ReferenceProgram,
    plan: ActivationPlan,
    encodings: Mapping[str, ActivationEncoding],
    inputs: tuple[Tensor, ...],
) -> dict[str, float]:
    """Say what 8 bits leave of each operator that reads a quantized tensor, in dB, by the layer's name."""
    names = layer_names(program.exported.graph)
    powers = measure_noise(program.exported, plan, encodings, inputs, batch_size=len(inputs[0]))
    return {names[node]: power.decibels for node, power in powers.items() if power.signal}


def insert_quantizers(
    program: ReferenceProgram, plan: ActivationPlan, encodings: Mapping[str, ActivationEncoding]
) -> None:
    """Insert quantizers and integer biases, in place.

    Raises:
        ExportError: A bias or sum beyond int32.
    """
    for layer in plan.layers:
        if layer.rule.has_weight:
            _quantize_bias_of(program, plan, layer, encodings)
    _keep_floats(program, plan)
    absorbed = {node for layer in plan.layers for node in _saturated(layer, plan, encodings)}
    grids: dict[str, tuple[Node, Node]] = {}
    zero_points: dict[int, Node] = {}
    for node, name in plan.tensors.items():
        grid = plan.grids[name]
        if encodings[name] != encodings[grid]:
            grid = name  # of a checkpoint or a file from before a rule made them share one
        if grid not in grids:
            scale = add_tensor(program, f"{grid}_scale", torch.tensor(encodings[grid].scale))
            value = encodings[grid].zero_point
            if value not in zero_points:  # equal ones are one tensor
                code = torch.tensor(value, dtype=torch.uint8)
                zero_points[value] = add_tensor(program, f"zero_point_{value}", code)
            grids[grid] = scale, zero_points[value]
        _insert_quantizer(program, node, name, *grids[grid])
    for node in absorbed:
        source = node.args[0]
        assert isinstance(source, Node)
        replace_node(program.exported, node, source)
    for layer in plan.layers:
        _name_scope(layer.head, layer.name)
    remove_unused_tensors(program)


def _refuse_weight(program: ReferenceProgram, node: Node) -> str:
    if node.target is not torch.ops.codeq.dequantize.default:
        return "its weight is computed from a quantized one" if _is_decoded(node) else "its weight is not quantized"
    return "its weight has a shift (paper's grid)" if node.args[2] is not None else ""


def _is_decoded(node: Node) -> bool:
    """Whether a dequantized weight goes into a value: half of a packed one, or a transposed one."""
    return is_constant(node) and any(
        operand.target is torch.ops.codeq.dequantize.default or _is_decoded(operand) for operand in node.all_input_nodes
    )


def _quantize_bias_of(
    program: ReferenceProgram, plan: ActivationPlan, layer: IntegerLayer, encodings: Mapping[str, ActivationEncoding]
) -> None:
    """Make a layer's bias integer, where it has one, and see that no sum can pass int32."""
    x, dequantize, *rest = layer.head.args
    assert isinstance(x, Node)
    assert isinstance(dequantize, Node)
    codes = dequantize.args[0]
    assert isinstance(codes, Node)
    weight = state_name(program.exported, codes)
    assert weight is not None
    record = program.weights[weight]
    encoding = encodings[plan.tensors[next(roots(x))]]  # of a concatenation, its first part: all share one grid
    bias = rest[0] if rest else None
    limit = _sum_limits(record, layer.head, encoding)
    if isinstance(bias, Node):
        limit = limit + _quantize_bias(program, layer, record, bias, encoding)
    worst = int(limit.max())
    if worst > INT32_MAX:
        channel = int(limit.argmax())
        raise ExportError(
            f"{layer.name}: sums of channel {channel} can reach {worst:.3g} steps of input scale times weight scale, "
            f"beyond int32; leave it out with --activations-except {layer.name}"
        )


def _sum_limits(record: WeightRecord, head: Node, encoding: ActivationEncoding) -> Tensor:
    """The largest magnitude of each output channel's integer sum, int64 `(C,)`."""
    codes = record.encoding.codes.transpose(0, CHANNEL_AXIS[head.target]).flatten(1)
    positive, negative = (part.sum(1, dtype=torch.int64) for part in (codes.clamp(min=0), codes.clamp(max=0)))
    low, high = -encoding.zero_point, QUANT_MAX - encoding.zero_point
    return torch.maximum(positive * high + negative * low, -positive * low - negative * high)


def _quantize_bias(
    program: ReferenceProgram, layer: IntegerLayer, record: WeightRecord, bias: Node, encoding: ActivationEncoding
) -> Tensor:
    """Give a layer its bias as int32 codes behind a dequantize; returns their magnitudes, int64 `(C,)`."""
    found = constant_value(program, bias)
    if found is None:
        raise ExportError(f"{layer.name}: its bias depends on the input; leave it out with --activations-except")
    value = found.detach().double()
    input_scale = torch.tensor(encoding.scale)
    scale = (input_scale * record.encoding.scale).expand(value.shape)
    scale = _widen_dead_channels(program, layer, record, scale, value, input_scale)
    codes = (value / scale.double()).round()
    if bool((codes.abs() > INT32_MAX).any()):
        channel = int(codes.abs().argmax())
        raise ExportError(
            f"{layer.name}: the bias {float(value[channel]):.3g} of channel {channel} is {float(codes[channel]):.3g} "
            f"steps of input scale times weight scale ({float(scale[channel]):.3g}), beyond int32; leave the layer out "
            f"with --activations-except {layer.name}"
        )
    codes_node = add_tensor(program, codes_name(f"{layer.name}.bias"), codes.to(torch.int32))
    scale_node = add_tensor(program, f"{layer.name}.bias_scale", scale.clone())
    new = insert_call(layer.head, torch.ops.codeq.dequantize.default, (codes_node, scale_node, None, 0))
    layer.head.args = (*layer.head.args[:2], new, *layer.head.args[3:])
    return codes.long().abs()


def _widen_dead_channels(
    program: ReferenceProgram,
    layer: IntegerLayer,
    record: WeightRecord,
    scale: Tensor,
    bias: Tensor,
    input_scale: Tensor,
) -> Tensor:
    """A channel of zeros may take any scale: one at which its bias fits well inside int32 (2^24 steps)."""
    encoding = record.encoding
    if encoding.scale.ndim == 0:
        return scale
    dead = ~encoding.codes.ne(0).transpose(0, CHANNEL_AXIS[layer.head.target]).flatten(1).any(1)
    wanted = (bias.abs() / 2**24).float()
    widen = dead & (wanted > scale)
    if not bool(widen.any()):
        return scale
    weight_scale = torch.where(widen, wanted / input_scale, encoding.scale)
    record.encoding = dataclasses.replace(encoding, scale=weight_scale)
    dequantize = layer.head.args[1]
    assert isinstance(dequantize, Node)
    scale_name = state_name(program.exported, dequantize.args[1])  # type: ignore[arg-type]
    assert scale_name is not None
    program.exported.state_dict[scale_name] = weight_scale
    return input_scale * weight_scale


def _saturated(layer: IntegerLayer, plan: ActivationPlan, encodings: Mapping[str, ActivationEncoding]) -> list[Node]:
    """The layer's clamp, where quantizing its input gives the codes that quantizing its output gives."""
    clamp = layer.tail
    if clamp is layer.head or clamp.target not in CLAMPS or clamp not in plan.tensors:
        return []
    low, high = CLAMPS[clamp.target](clamp)
    codes = encodings[plan.tensors[clamp]].quantize(torch.tensor([low, high]))
    return [clamp] if codes.tolist() == [0, QUANT_MAX] else []


def _insert_quantizer(program: ReferenceProgram, node: Node, name: str, scale: Node, zero_point: Node) -> None:
    graph = program.exported.graph
    readers = list(node.users)
    after = node.next
    while after.op == "placeholder":  # an input's quantizer comes behind all inputs
        after = after.next
    with graph.inserting_before(after):
        codes = graph.call_function(torch.ops.codeq.quantize.default, (node, scale, zero_point))
        value = graph.call_function(torch.ops.codeq.dequantize.default, (codes, scale, None, 0, zero_point))
    for new, dtype in ((codes, torch.uint8), (value, torch.float32)):
        new.meta = {key: node.meta[key] for key in ("nn_module_stack", "stack_trace") if key in node.meta}
        new.meta["val"] = torch.empty_like(node.meta["val"], dtype=dtype)
        new.meta["constant"] = False
    _name_scope(codes, name)
    for reader in readers:
        if reader.op != "output" or node.op != "placeholder":  # an input that is returned is returned as it came
            reader.replace_input_with(node, value)
    for spec in program.exported.graph_signature.output_specs:
        if spec.arg.name == node.name and node.op != "placeholder":
            spec.arg.name = value.name


def _keep_floats(program: ReferenceProgram, plan: ActivationPlan) -> None:
    """Mark what layers read that stay float, by choice or for lack of a quantized weight: no runtime is to guess."""
    heads = {layer.head for layer in plan.layers}
    for node in list(program.exported.graph.nodes):
        if node in heads or node.target not in MADE_INTEGER:
            continue
        x = node.args[0]
        if isinstance(x, Node) and any(root in plan.tensors for root in roots(x)):
            node.args = (insert_call(node, torch.ops.codeq.keep_float.default, (x,)), *node.args[1:])


def _name_scope(node: Node, name: str) -> None:
    """Note a layer's name where the exporter finds it: as the innermost module of the node."""
    stack = node.meta.get("nn_module_stack", {})
    node.meta["nn_module_stack"] = {**stack, SCOPE_KEY: (f"{LAYER_SCOPE}{name}", "codeq.Layer")}
