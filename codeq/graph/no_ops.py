"""Take out of a graph what changes no value: casts to the dtype that a tensor has, moves to its device, copies.

    Before: conv -> to(float32) -> contiguous -> relu        After: conv -> relu

No rule sees a layer through them: neither a BatchNorm that is to be folded, nor a relu that is to be absorbed. Exact.
A detach goes where nothing asks for gradients; in training it stays.
"""

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import Node

from codeq.graph.nodes import operator_name

aten = torch.ops.aten

CASTS = frozenset({"to", "type_as", "alias", "positive", "resolve_conj", "resolve_neg", "lift_fresh"})
COPIES = frozenset({"contiguous", "clone", "_to_copy"})
"""Operators that may give a tensor memory of its own: a write into one of both shows in the other without them."""
MEMORY_READERS = frozenset({"as_strided", "view_as_real", "view_as_complex"})
"""Operators whose result depends on how a tensor lies in memory."""


def remove_no_ops(exported: ExportedProgram) -> None:
    """Remove them from a traced network, in place."""
    graph = exported.graph
    names = {operator_name(node) for node in graph.nodes}
    trains = any(node.op == "placeholder" and _requires_grad(node) for node in graph.nodes)
    kept = {"detach"} if trains else set()
    if names & MEMORY_READERS or any(map(_writes, graph.nodes)):
        kept |= COPIES
    reordered: set[Node] = set()
    for node in list(graph.nodes):
        if operator_name(node) == "_assert_tensor_metadata":
            graph.erase_node(node)
        elif operator_name(node) not in kept and _changes_nothing(node) and _may_go(node):
            source = node.args[0]
            assert isinstance(source, Node)
            exported.graph_signature.replace_all_uses(node.name, source.name)
            if not source.meta["val"].is_contiguous():
                reordered.update(node.users)
            node.replace_all_uses_with(source)
            graph.erase_node(node)
    for node in graph.nodes:  # a view asks for memory in the order that the copy had made
        if any(operand in reordered for operand in node.all_input_nodes):
            reordered.add(node)
        if node in reordered and node.target is aten.view.default:
            node.target = aten.reshape.default
    exported.graph_module.recompile()


def _changes_nothing(node: Node) -> bool:
    name = operator_name(node)
    source = node.args[0] if node.args else None
    if name not in CASTS | COPIES | {"detach"} or not isinstance(source, Node):
        return False
    before, after = source.meta["val"], node.meta["val"]
    return isinstance(before, Tensor) and (before.dtype, before.device) == (after.dtype, after.device)


def _may_go(node: Node) -> bool:
    """Whether an output stays a tensor of its own: no input, and not the same as another output."""
    outputs = [user for user in node.users if user.op == "output"]
    source = node.args[0]
    assert isinstance(source, Node)
    return not outputs or (source.op == "call_function" and not any(user.op == "output" for user in source.users))


def _requires_grad(node: Node) -> bool:
    return bool(getattr(node.meta.get("val"), "requires_grad", False))


def _writes(node: Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and bool(schema.is_mutable)
