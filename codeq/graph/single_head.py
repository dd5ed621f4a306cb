"""Give attention of one head an axis for heads: exporters know no other form.

    Before: scaled_dot_product_attention(q, k, v, mask), each (N, L, D)
    After:  squeeze(scaled_dot_product_attention(unsqueeze(q), unsqueeze(k), unsqueeze(v), mask)), each (N, 1, L, D)

Exact.
"""

import torch
from torch.export import ExportedProgram
from torch.fx import Node

from codeq.graph.nodes import insert_call, replace_node

aten = torch.ops.aten
HEAD_AXIS = 1


def add_head_axis(exported: ExportedProgram) -> None:
    """Rewrite attention of three-dimensional tensors, in place."""
    for node in list(exported.graph.nodes):
        if node.target is not aten.scaled_dot_product_attention.default or node.meta["val"].ndim != HEAD_AXIS + 2:
            continue
        operands = [
            insert_call(node, aten.unsqueeze.default, (operand, HEAD_AXIS)) if _has_batch(operand) else operand
            for operand in node.args
        ]
        attention = insert_call(node, node.target, tuple(operands), dict(node.kwargs))
        replace_node(exported, node, insert_call(node, aten.squeeze.dim, (attention, HEAD_AXIS)))


def _has_batch(operand: object) -> bool:
    """Whether it is a tensor with a batch axis: a mask may be (L, S)."""
    return isinstance(operand, Node) and bool(operand.meta["val"].ndim == HEAD_AXIS + 2)
