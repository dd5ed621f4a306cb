"""Tell which nodes only move, select or pad values: they compute on codes as they are and keep the input's grid."""

from collections.abc import Iterator

import torch
from torch.fx import Node

from codeq.graph.nodes import depends_on_input, is_tensor, operator_name
from codeq.graph.operators import CLAMPS, INTERPOLATIONS, MOVES, PICKS, SPLITS

aten = torch.ops.aten


def is_move(node: Node) -> bool:
    """Tell whether a node only moves or selects values.

    A padding must be with zeros, a concatenation must join computed values alone, and places must be constant.
    """
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
    if not all(depends_on_input(operand) for operand in moved(node)):
        return False
    if node.target in PICKS and any(depends_on_input(operand) for operand in node.all_input_nodes[1:]):
        return False
    # A relu gives its layer a grid that starts at zero; shared with one that does not, it could not be absorbed.
    return node.target is not aten.cat.default or len({_starts_at_zero(part) for part in joined(node)}) == 1


def joined(node: Node) -> tuple[Node, ...]:
    """Return the tensors that a concatenation joins."""
    return tuple(node.args[0])  # type: ignore[arg-type]


def moved(node: Node) -> tuple[Node, ...]:
    """Return the tensors whose values a move moves: all that it reads, but for places to pick from."""
    read = node.all_input_nodes[:1] if node.target in PICKS else node.all_input_nodes
    return tuple(operand for operand in read if is_tensor(operand))


def roots(node: Node) -> Iterator[Node]:
    """Yield the values that a chain of moves starts at; the node itself where it moves nothing."""
    if not is_move(node):
        yield node
        return
    for operand in moved(node):
        yield from roots(operand)


def _starts_at_zero(node: Node) -> bool:
    return all(
        _starts_at_zero(root.args[0])  # type: ignore[arg-type]
        if root.target in INTERPOLATIONS
        else root.target in CLAMPS and CLAMPS[root.target](root)[0] == 0
        for root in roots(node)
    )


def _number(node: Node, position: int) -> float:
    value = node.args[position] if len(node.args) > position else 0
    return float(value or 0)  # type: ignore[arg-type]
