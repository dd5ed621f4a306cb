"""Decide where a network's activations are quantized, from the rule table (rules.py) and from what reads what.

A tensor is quantized (uint8, one scale and zero point) if the operator that makes it or one that reads it computes in
integers. The operator and what directly follows it (BatchNorm, a clamp such as relu) are one layer with one output.
Operators that only move or select values compute on the codes and keep their input's grid.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.fx import Graph, Node

from codeq.activations.moves import is_move, roots
from codeq.activations.rules import INTEGER, Rule, activations, refusal
from codeq.errors import AttachError
from codeq.graph.nodes import (
    depends_on_input,
    has_float_tensor,
    is_constant,
    is_tensor,
    layer_names,
    module_type,
    operator_name,
)
from codeq.graph.operators import CLAMPS, INTERPOLATIONS
from codeq.toolkit.patterns import matches

aten = torch.ops.aten


@dataclass(frozen=True, eq=False)
class IntegerLayer:
    """Describes an operator that computes in integers, and what it absorbs.

    Attributes:
        name: Its name in the network.
        operator: What aten calls it.
        rule: How it computes in integers.
        head: Its node.
        tail: The node of the BatchNorm or clamp that it absorbs last; `head` where there is none.
    """

    name: str
    operator: str
    rule: Rule
    head: Node
    tail: Node

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Return the nodes from `head` to `tail`."""
        nodes = [self.head]
        while nodes[-1] is not self.tail:
            nodes.append(next(iter(nodes[-1].users)))
        return tuple(nodes)


@dataclass(frozen=True)
class FloatLayer:
    """Names an operator that computes in float, and says why."""

    name: str
    operator: str
    reason: str


@dataclass(frozen=True, eq=False)
class ActivationPlan:
    """Says what is quantized in one graph.

    Attributes:
        layers: In the graph's order.
        float_layers: The others, in the graph's order.
        tensors: Each quantized value with its name: that of its layer, or of the network's input.
        grids: Name of a quantized value to the name whose scale and zero point it shares; its own for most.
        too_wide: Names of values that stay float since 8 bits cannot hold them, with the reason.
    """

    layers: tuple[IntegerLayer, ...]
    float_layers: tuple[FloatLayer, ...]
    tensors: Mapping[Node, str]
    grids: Mapping[str, str]
    too_wide: Mapping[str, str] = field(default_factory=dict)


def plan_activations(
    exported: ExportedProgram,
    refuse_weight: Callable[[Node], str],
    *,
    exclude: Iterable[str] = (),
    absorb_batch_norm: bool = False,
    too_wide: Mapping[str, str] | None = None,
    wanted: Collection[str] = (),
    quantize_outputs: bool = False,
) -> ActivationPlan:
    """Decide what is quantized.

    Args:
        exported: Traced in eval mode and canonicalized.
        refuse_weight: Why a weight argument cannot feed an integer kernel; empty where it can.
        absorb_batch_norm: In training, where it is not folded yet.
        exclude: Layers that stay float: names, globs, `re:` expressions, or types such as `Linear` or `linear`.
        too_wide: Names of values that stay float since 8 bits cannot hold them, with the reason.
        wanted: Names of values that have a grid already, of training or of a file: the layers that make them compute in
            integers where they can, whether or not it pays.
        quantize_outputs: Quantize what a layer gives that no integer layer reads too, such as a network's output.

    Raises:
        AttachError: A pattern matches no layer that could compute in integers.
    """
    graph = exported.graph
    names = layer_names(graph)
    excluded = _excluded(names, tuple(exclude))
    reasons = {node: "excluded" if node in excluded else refusal(node, refuse_weight) for node in names}
    tails = {node: _tail(node, absorb_batch_norm) for node in names if node.target in INTEGER}
    wide = _wide_values(graph, names, tails, too_wide or {})
    for node, tail in tails.items():
        reasons[node] = reasons[node] or _refuse_wide(node, tail, wide)
    # From the outputs to the inputs: what reads a value decides whether making it in integers pays.
    read: dict[Node, bool] = {}
    heads: set[Node] = set()
    for node in reversed(list(graph.nodes)):
        read[node] = any((user in heads and node in activations(user)) or _moves(user, read) for user in node.users)
        if node in tails and not reasons[node]:
            if read[tails[node]] or not INTEGER[node.target].only_if_read or names[node] in wanted:
                heads.add(node)
            else:
                reasons[node] = "nothing that reads it computes in integers"

    layers = tuple(
        IntegerLayer(names[node], operator_name(node), INTEGER[node.target], node, tails[node])
        for node in graph.nodes
        if node in heads
    )
    absorbed = {node for layer in layers for node in layer.nodes[1:]}
    # A clamp behind a layer that gives floats would be fused with it into a float kernel.
    outputs = {
        layer.tail
        for layer in layers
        if read[layer.tail]
        or not layer.rule.float_output
        or layer.tail is not layer.head
        or quantize_outputs
        or layer.name in wanted
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
        if has_float_tensor(node) and (depends_on_input(node) or node.target in INTEGER) and _reads_tensors(node)
    )
    return ActivationPlan(layers, float_layers, tensors, _grids(graph, tensors, read, heads), too_wide or {})


def _wide_values(
    graph: Graph, names: Mapping[Node, str], tails: Mapping[Node, Node], too_wide: Mapping[str, str]
) -> dict[Node, str]:
    """Find the values that 8 bits cannot hold, with the reason. A layer's name is that of the value of its tail."""
    wide: dict[Node, str] = {}
    for node in graph.nodes if too_wide else ():
        if node.op == "output" or not is_tensor(node) or not depends_on_input(node):
            continue
        reason = too_wide.get(names.get(node) or _value_name(names, node))
        if reason is not None:
            wide[node] = wide[tails.get(node, node)] = reason
    return wide


def _refuse_wide(node: Node, tail: Node, wide: Mapping[Node, str]) -> str:
    """Say why an operator of `INTEGER` cannot have codes: for a value that it reads, or for the one that it makes."""
    for operand in activations(node):
        for root in roots(operand):
            if root in wide:
                return wide[root]
    # A layer that can give floats need not give codes, but for a clamp that would be fused with it.
    gives_codes = not INTEGER[node.target].float_output or tail is not node
    return wide.get(tail, "") if gives_codes else ""


def _tail(head: Node, absorb_batch_norm: bool) -> Node:
    """Find the last node that a layer absorbs: BatchNorm behind a weight, then one clamp, each the only reader.

    What keeps its operand's grid absorbs none: a clamp would be the saturation of a grid of its own.
    """
    node = head
    if head.target in INTERPOLATIONS:
        return head
    if absorb_batch_norm and INTEGER[head.target].has_weight and _only_reader(node, {aten.batch_norm.default}):
        node = next(iter(node.users))
    return next(iter(node.users)) if _only_reader(node, CLAMPS) else node


def _only_reader(node: Node, targets: Iterable[Any]) -> bool:
    users = list(node.users)
    return len(users) == 1 and users[0].target in targets and users[0].args[0] is node


def _reads_tensors(node: Node) -> bool:
    """Whether a node computes from tensors, not from constants and the batch size alone, as a repeated token does."""
    return any(is_tensor(operand) and not is_constant(operand) for operand in node.all_input_nodes)


def _moves(node: Node, read: Mapping[Node, bool]) -> bool:
    return is_move(node) and read[node]


def _value_name(names: Mapping[Node, str], node: Node) -> str:
    """The name of a value that no operator of its own makes: the network's input, or one of several outputs."""
    if _is_part(node):
        source, index = node.args[:2]
        return f"{names[source]}.{index}"  # type: ignore[index]
    while node.op != "placeholder":  # rearranged first
        node = node.all_input_nodes[0]
    return str(node.meta["input_name"])


def _is_part(node: Node) -> bool:
    """Whether a node is one of several results of an operator of the network's own."""
    return getattr(node.target, "__name__", "") == "getitem" and operator_name(node.args[0]) != ""  # type: ignore[arg-type]


def _grids(
    graph: Graph, tensors: Mapping[Node, str], read: Mapping[Node, bool], heads: Collection[Node]
) -> dict[str, str]:
    """Values that meet in a concatenation take the grid of the first; an interpolation in integers, its operand's."""
    grids = {name: name for name in tensors.values()}
    for node in graph.nodes:
        if node.target is aten.cat.default and _moves(node, read):
            sharing = [*roots(node)]
        elif node.target in INTERPOLATIONS and node in heads:
            sharing = [*roots(node.args[0]), node]
        else:
            continue
        joined = [grids[tensors[root]] for root in sharing if root in tensors]
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
