"""Write a mean of codes over one axis as the pool that onnxruntime has an integer kernel for. Exact, sum by sum.

    Before: codes (N, T, C) -> mean(1) -> codes (N, C)
    After:  codes (N, T, C) -> permute (N, C, T) -> reshape (N, C, 1, T) -> global average pool -> reshape -> codes

A mean in float between codes (ReduceMean) takes and gives them by way of floats. On codes a permutation moves bytes.
"""

import math

import torch
from torch.fx import Node

from codeq.graph.nodes import insert_call, replace_node
from export.program.names import SCOPE_KEY, scope_name
from export.program.program import ReferenceProgram

aten = torch.ops.aten


def pool_means(program: ReferenceProgram) -> int:
    """Rewrite every mean that the program computes on codes, in place; returns how many."""
    assert program.activations is not None
    layers = {layer.name for layer in program.activations.layers if layer.kind == "mean"}
    means = [node for node in program.exported.graph.nodes if node.target is aten.mean.dim]
    chosen = [node for node in means if scope_name(node) in layers]
    for node in chosen:
        _pool(program, node)
    program.exported.graph_module.recompile()
    return len(chosen)


def _pool(program: ReferenceProgram, node: Node) -> None:
    x, axes = node.args[:2]
    assert isinstance(x, Node)
    value = x.meta["val"]
    axis = int(axes[0]) % value.ndim  # type: ignore[index,arg-type]
    if axis != value.ndim - 1:
        order = [other for other in range(value.ndim) if other != axis] + [axis]
        x = _unnamed(insert_call(node, aten.permute.default, (x, order)))
    kept = [size for other, size in enumerate(value.shape) if other != axis]
    channels = math.prod(kept[1:]) if all(isinstance(size, int) for size in kept[1:]) else 1
    rows = _unnamed(insert_call(node, aten.reshape.default, (x, [-1, channels, 1, value.shape[axis]])))
    pooled = insert_call(node, aten.adaptive_avg_pool2d.default, (rows, [1, 1]))
    sizes = [size if isinstance(size, int) else -1 for size in node.meta["val"].shape]
    replace_node(program.exported, node, _unnamed(insert_call(node, aten.reshape.default, (pooled, sizes))))


def _unnamed(node: Node) -> Node:
    """Leave the layer's name to the pool alone."""
    node.meta["nn_module_stack"] = {
        key: value for key, value in node.meta["nn_module_stack"].items() if key != SCOPE_KEY
    }
    return node
