"""Where activations are quantized: a rule table over aten operators, and the plan it gives for a network.

A tensor is quantized (uint8, one scale and zero point) if the operator that makes it or one that reads it computes in
integers. The operator and what directly follows it (BatchNorm, a clamp such as relu) are one layer with one output.
Operators that only move or select values compute on the codes and keep their input's grid.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import Graph, Node

from codeq.errors import AttachError
from codeq.graph.nodes import has_float_tensor, is_constant, is_float_tensor, layer_names, module_type, operator_name
from codeq.toolkit.patterns import matches

aten = torch.ops.aten

WEIGHT_ARGUMENT = 1
"""Of convolutions and linear layers: (input, weight, bias, ...)."""


@dataclass(frozen=True)
class Rule:
    """How one operator computes in integers.

    Attributes:
        kernel: What onnxruntime makes of it.
        activations: Positions of the arguments that are quantized.
        has_weight: The second argument must be a quantized weight.
        float_output: The kernel can also give floats, so the output is quantized only for a reader in integers.
        only_if_read: Worth it only where an operator in integers reads the result.
        refuse: Why this node cannot; empty where it can.
    """

    kernel: str
    activations: tuple[int, ...] = (0,)
    has_weight: bool = False
    float_output: bool = False
    only_if_read: bool = False
    refuse: Callable[[Node], str] = lambda node: ""


def _refuse_alpha(node: Node) -> str:
    return "it scales its second operand" if node.kwargs.get("alpha", 1) != 1 else ""


def _refuse_vectors(node: Node) -> str:
    return "" if all(operand.meta["val"].ndim >= 2 for operand in node.all_input_nodes) else "it multiplies a vector"


def _refuse_ceil(node: Node) -> str:
    if len(node.args) > 4 and node.args[4]:
        return "its last windows are cut off (ceil_mode)"
    return "it divides by another number (divisor_override)" if len(node.args) > 6 and node.args[6] else ""


def _refuse_uneven(node: Node) -> str:
    sizes, wanted = node.args[0].meta["val"].shape[-2:], node.args[1]  # type: ignore[union-attr]
    even = all(
        isinstance(size, int) and isinstance(want, int) and size % want == 0
        for size, want in zip(sizes, wanted, strict=True)  # type: ignore[arg-type]
    )
    return "" if list(wanted) == [1, 1] or even else "its windows differ in size"  # type: ignore[arg-type]


_CONVOLUTION = Rule("QLinearConv", has_weight=True)
_PRODUCT = Rule("QLinearMatMul", activations=(0, 1), float_output=True, refuse=_refuse_vectors)

INTEGER: Mapping[Any, Rule] = {
    aten.conv1d.default: _CONVOLUTION,
    aten.conv1d.padding: _CONVOLUTION,
    aten.conv2d.default: _CONVOLUTION,
    aten.conv2d.padding: _CONVOLUTION,
    aten.conv3d.default: _CONVOLUTION,
    aten.conv3d.padding: _CONVOLUTION,
    aten.linear.default: Rule("QGemm", has_weight=True, float_output=True),
    aten.matmul.default: _PRODUCT,
    aten.bmm.default: _PRODUCT,
    aten.mm.default: _PRODUCT,
    aten.add.Tensor: Rule("QLinearAdd", activations=(0, 1), refuse=_refuse_alpha),
    aten.mul.Tensor: Rule("QLinearMul", activations=(0, 1), only_if_read=True),
    aten.adaptive_avg_pool2d.default: Rule("QLinearGlobalAveragePool", only_if_read=True, refuse=_refuse_uneven),
    aten.avg_pool2d.default: Rule("QLinearAveragePool", only_if_read=True, refuse=_refuse_ceil),
    aten.cat.default: Rule("QLinearConcat", only_if_read=True),
    aten.sigmoid.default: Rule("QLinearSigmoid", only_if_read=True),
    aten.leaky_relu.default: Rule("QLinearLeakyRelu", only_if_read=True),
}
"""Operators with an integer kernel. Grouped and depthwise convolutions are convolutions."""

MOVES = frozenset(
    {
        aten.view.default,
        aten.reshape.default,
        aten.flatten.using_ints,
        aten.unflatten.int,
        aten.permute.default,
        aten.transpose.int,
        aten.t.default,
        aten.slice.Tensor,
        aten.select.int,
        aten.squeeze.dim,
        aten.squeeze.dims,
        aten.squeeze.default,
        aten.unsqueeze.default,
        aten.expand.default,
        aten.contiguous.default,
        aten.clone.default,
        aten.alias.default,
        aten.detach.default,
        aten.dropout.default,
        aten.feature_dropout.default,
        aten.max_pool1d.default,
        aten.max_pool2d.default,
        aten.max_pool3d.default,
        aten.pad.default,
        aten.constant_pad_nd.default,
        aten.upsample_nearest2d.vec,
        aten.pixel_shuffle.default,
        aten.pixel_unshuffle.default,
        aten.cat.default,
    }
)
"""Operators whose every output value is one of their input's, or the zero of a padding. Inputs share one grid."""

SPLITS = frozenset(
    {aten.chunk.default, aten.split.Tensor, aten.split_with_sizes.default, aten.unbind.int, aten.split.sizes}
)
"""Moves that give several values."""

CLAMPS: Mapping[Any, Callable[[Node], tuple[float, float]]] = {
    aten.relu.default: lambda node: (0.0, float("inf")),
    aten.relu6.default: lambda node: (0.0, 6.0),
    aten.hardtanh.default: lambda node: _limits(node, -1.0, 1.0),
    aten.clamp.default: lambda node: _limits(node, float("-inf"), float("inf")),
    aten.clamp_min.default: lambda node: (float(node.args[1]), float("inf")),  # type: ignore[arg-type]
}
"""Operators that a quantizer's saturation can replace, with their lower and upper limit."""

_NO_KERNEL = "there is no integer kernel for it"
_INACCURATE = "8 bits lose accuracy here"
_NOT_ABSORBED = "it does not follow a layer in integers as its only reader"
FLOAT: Mapping[str, str] = {
    "conv_transpose1d": _NO_KERNEL,
    "conv_transpose2d": _NO_KERNEL,
    "conv_transpose3d": _NO_KERNEL,
    "hardswish": _NO_KERNEL,
    "hardsigmoid": _NO_KERNEL,
    "gelu": _NO_KERNEL,
    "elu": _NO_KERNEL,
    "tanh": _NO_KERNEL,
    "prelu": _NO_KERNEL,
    "embedding": "it looks up a table of floats",
    "embedding_bag": "it looks up a table of floats",
    "batch_norm": "it was not folded into a layer",
    "softmax": _INACCURATE,
    "layer_norm": _INACCURATE,
    "group_norm": _INACCURATE,
    "rms_norm": _INACCURATE,
    "scaled_dot_product_attention": f"softmax: {_INACCURATE}",
    "relu": _NOT_ABSORBED,
    "hardtanh": _NOT_ABSORBED,
    "clamp": _NOT_ABSORBED,
}
"""Operators that stay float by intent, with the reason; they read and write quantized tensors where these meet them."""


@dataclass(frozen=True, eq=False)
class IntegerLayer:
    """One operator that computes in integers. `tail` is `head`, or the BatchNorm or clamp that it absorbs."""

    name: str
    operator: str
    rule: Rule
    head: Node
    tail: Node


@dataclass(frozen=True)
class FloatLayer:
    """One operator that computes in float, and why."""

    name: str
    operator: str
    reason: str


@dataclass(frozen=True, eq=False)
class ActivationPlan:
    """What is quantized in one graph.

    Attributes:
        layers: In the graph's order.
        float_layers: The others, in the graph's order.
        tensors: Each quantized value with its name: that of its layer, or of the network's input.
        grids: Name of a quantized value to the name whose scale and zero point it shares; its own for most.
    """

    layers: tuple[IntegerLayer, ...]
    float_layers: tuple[FloatLayer, ...]
    tensors: Mapping[Node, str]
    grids: Mapping[str, str]


def plan_activations(
    exported: ExportedProgram,
    refuse_weight: Callable[[Node], str],
    *,
    exclude: Iterable[str] = (),
    absorb_batch_norm: bool = False,
) -> ActivationPlan:
    """Decide what is quantized.

    Args:
        exported: Traced in eval mode and canonicalized.
        refuse_weight: Why a weight argument cannot feed an integer kernel; empty where it can.
        absorb_batch_norm: In training, where it is not folded yet.
        exclude: Layers that stay float: names, globs, `re:` expressions, or types such as `Linear` or `linear`.

    Raises:
        AttachError: A pattern matches no layer that could compute in integers.
    """
    graph = exported.graph
    names = layer_names(graph)
    excluded = _excluded(names, tuple(exclude))
    reasons = {node: "excluded" if node in excluded else _refusal(node, refuse_weight) for node in names}
    tails = {node: _tail(node, absorb_batch_norm) for node in names if node.target in INTEGER}
    # From the outputs to the inputs: what reads a value decides whether making it in integers pays.
    read: dict[Node, bool] = {}
    heads: set[Node] = set()
    for node in reversed(list(graph.nodes)):
        read[node] = any((user in heads and node in activations(user)) or _moves(user, read) for user in node.users)
        if node in tails and not reasons[node]:
            if read[tails[node]] or not INTEGER[node.target].only_if_read:
                heads.add(node)
            else:
                reasons[node] = "nothing that reads it computes in integers"

    layers = tuple(
        IntegerLayer(names[node], operator_name(node), INTEGER[node.target], node, tails[node])
        for node in graph.nodes
        if node in heads
    )
    absorbed = {node for layer in layers for node in _between(layer)}
    # A clamp behind a kernel that gives floats would be fused with it into a float kernel (FusedGemm).
    outputs = {
        layer.tail
        for layer in layers
        if read[layer.tail] or not layer.rule.float_output or layer.tail is not layer.head
    }
    inputs = {root for layer in layers for node in activations(layer.head) for root in roots(node)}
    layer_of = {layer.tail: layer.name for layer in layers}
    tensors = {
        node: layer_of.get(node) or names.get(node) or _value_name(names, node)
        for node in graph.nodes
        if node in outputs or node in inputs
    }
    assert len(set(tensors.values())) == len(tensors), "every quantized value has a name of its own"
    float_layers = tuple(
        FloatLayer(names[node], operator_name(node), reasons[node])
        for node in names
        if node not in heads and node not in absorbed and not is_move(node)
        if has_float_tensor(node) and _reads_tensors(node)
    )
    return ActivationPlan(layers, float_layers, tensors, _grids(graph, tensors, read))


def activations(node: Node) -> tuple[Node, ...]:
    """The arguments of a node that an integer kernel reads as activations."""
    if node.target is aten.cat.default:
        return tuple(node.args[0])  # type: ignore[arg-type]
    return tuple(node.args[position] for position in INTEGER[node.target].activations)  # type: ignore[misc]


def is_move(node: Node) -> bool:
    """Whether a node only moves or selects values; a padding must be with zeros, a concatenation of computed values."""
    if operator_name(node) == "":
        source = node.args[0] if node.args and getattr(node.target, "__name__", "") == "getitem" else None
        return isinstance(source, Node) and source.target in SPLITS
    if node.target in SPLITS:
        return True
    if node.target not in MOVES:
        return False
    if node.target is aten.pad.default:
        mode = node.args[2] if len(node.args) > 2 else "constant"
        return mode != "constant" or not _number(node, 3)
    if node.target is aten.constant_pad_nd.default:
        return not _number(node, 2)
    if any(is_constant(operand) for operand in node.all_input_nodes):
        return False
    # A relu gives its layer a grid that starts at zero; shared with one that does not, it could not be absorbed.
    return node.target is not aten.cat.default or len({_starts_at_zero(part) for part in activations(node)}) == 1


def _starts_at_zero(node: Node) -> bool:
    return all(root.target in CLAMPS and CLAMPS[root.target](root)[0] == 0 for root in roots(node))


def _refusal(node: Node, refuse_weight: Callable[[Node], str]) -> str:
    rule = INTEGER.get(node.target)
    if rule is None:
        return FLOAT.get(operator_name(node), "there is no rule for it")
    if is_move(node):
        return "it moves values"
    if node.target is aten.cat.default:
        operands = list(node.args[0])  # type: ignore[arg-type]
    else:
        operands = [node.args[position] if position < len(node.args) else None for position in rule.activations]
    if not all(isinstance(operand, Node) and is_float_tensor(operand) for operand in operands):
        return "one operand is a number"
    if any(is_constant(operand) for operand in operands):
        return "one operand is a constant"
    if rule.has_weight:
        weight = node.args[WEIGHT_ARGUMENT]
        assert isinstance(weight, Node)
        reason = refuse_weight(weight)
        if reason:
            return reason
    return rule.refuse(node)


def _tail(head: Node, absorb_batch_norm: bool) -> Node:
    """The last node that a layer absorbs: BatchNorm behind a weight, then one clamp, each the only reader."""
    node = head
    if absorb_batch_norm and INTEGER[head.target].has_weight and _only_reader(node, {aten.batch_norm.default}):
        node = next(iter(node.users))
    return next(iter(node.users)) if _only_reader(node, CLAMPS) else node


def _only_reader(node: Node, targets: Iterable[Any]) -> bool:
    users = list(node.users)
    return len(users) == 1 and users[0].target in targets and users[0].args[0] is node


def _between(layer: IntegerLayer) -> Iterator[Node]:
    node = layer.head
    while node is not layer.tail:
        node = next(iter(node.users))
        yield node


def _reads_tensors(node: Node) -> bool:
    """Whether a node computes from values, not from constants and the batch size alone.

    The first state of a recurrent layer (zeros) and a class token (repeated) are no layers.
    """
    return any(
        isinstance(operand.meta["val"], Tensor | tuple | list) and not is_constant(operand)
        for operand in node.all_input_nodes
    )


def _moves(node: Node, read: Mapping[Node, bool]) -> bool:
    return is_move(node) and read[node]


def _value_name(names: Mapping[Node, str], node: Node) -> str:
    """The name of a value that no operator of its own makes: the network's input, or one of several outputs."""
    if getattr(node.target, "__name__", "") == "getitem":
        source, index = node.args[:2]
        return f"{names[source]}.{index}"  # type: ignore[index]
    while node.op != "placeholder":  # rearranged first
        node = node.all_input_nodes[0]
    return str(node.meta["input_name"])


def roots(node: Node) -> Iterator[Node]:
    """The values that a chain of moves starts at; the node itself where it moves nothing."""
    if not is_move(node):
        yield node
        return
    for operand in node.all_input_nodes:
        if isinstance(operand.meta["val"], Tensor | tuple | list):
            yield from roots(operand)


def _grids(graph: Graph, tensors: Mapping[Node, str], read: Mapping[Node, bool]) -> dict[str, str]:
    """Values that meet in a concatenation take the grid of the first."""
    grids = {name: name for name in tensors.values()}
    for node in graph.nodes:
        if node.target is not aten.cat.default or not _moves(node, read):
            continue
        joined = [grids[tensors[root]] for root in roots(node) if root in tensors]
        for name, grid in grids.items():
            if grid in joined:
                grids[name] = joined[0]
    return grids


def _excluded(names: Mapping[Node, str], patterns: tuple[str, ...]) -> set[Node]:
    selected: set[Node] = set()
    candidates = {node: name for node, name in names.items() if node.target in INTEGER}
    for pattern in patterns:
        found = {
            node
            for node, name in candidates.items()
            if matches(pattern, (name, operator_name(node), module_type(node) or name))
        }
        if not found:
            known = ", ".join(list(candidates.values())[:4])
            more = f", ... ({len(candidates)} in all)" if len(candidates) > 4 else ""
            raise AttachError(f"{pattern!r} matches no layer that could compute in integers; these are {known}{more}")
        selected |= found
    return selected


def _limits(node: Node, low: float, high: float) -> tuple[float, float]:
    values = [*node.args[1:3], None, None][:2]
    given = [values[0] if values[0] is not None else low, values[1] if values[1] is not None else high]
    return float(given[0]), float(given[1])  # type: ignore[arg-type]


def _number(node: Node, position: int) -> float:
    value = node.args[position] if len(node.args) > position else 0
    return float(value or 0)  # type: ignore[arg-type]
