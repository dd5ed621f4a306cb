"""Rewrite a graph to one spelling per operation, so that one rule per operation is enough.

What moves values first, in the words of codeq/graph/spelled_*.py. In place, exact up to the order of sums:

avg_pool2d(x, k, divisor_override=d)  ->  avg_pool2d(x, k) * (k * k / d)
silu(x)                               ->  mul(x, sigmoid(x)): both have integer kernels
mean(x, (2, 3)) of an image           ->  adaptive_avg_pool2d(x, 1): a mean has no integer kernel
upsample_linear1d(x)                  ->  upsample_bilinear2d of an image of one row
linear(x) of three or more dimensions ->  reshape, linear of two, reshape: only that one takes an integer bias
stack(a, b)                           ->  cat(unsqueeze(a), unsqueeze(b)), which share a grid
x.mT                                  ->  transpose(x, -2, -1)
relu(detach(x))                       ->  detach(relu(x)): likewise
relu(reshape(linear(x)))              ->  reshape(relu(linear(x))): a layer absorbs the clamp that directly follows
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import Node

from codeq.errors import TraceError
from codeq.graph.nodes import insert_call, layer_names, replace_node
from codeq.graph.operators import CLAMPS
from codeq.graph.spell import Words, spell_all, word
from codeq.graph.spelled_extremes import EXTREMES_IN_OTHER_WORDS, MEDIANS
from codeq.graph.spelled_moves import MOVES_IN_OTHER_WORDS
from codeq.graph.spelled_windows import ADAPTIVE, WINDOWS_IN_OTHER_WORDS
from codeq.graph.writes import writes_in_place

aten = torch.ops.aten

NOT_MERGED = frozenset({aten.dropout.default, aten.feature_dropout.default, aten.batch_norm.default})


def _divide_by_window(
    x: Tensor,
    kernel: Any,
    stride: Any = (),
    padding: Any = 0,
    ceil: bool = False,
    count: bool = True,
    divisor: int | None = None,
) -> Tensor | None:
    """Divide by the size of the window, and multiply by what makes another divisor of it: ONNX has no such argument."""
    if divisor is None:
        return None
    sizes, pads = ([value] * 2 if isinstance(value, int) else [value[0], value[-1]] for value in (kernel, padding))
    if ceil:
        steps = sizes if stride in ((), []) else [stride] * 2 if isinstance(stride, int) else [stride[0], stride[-1]]
        x, pads = _with_zeros(x, sizes, steps, pads), [0, 0]
    mean: Tensor = aten.avg_pool2d.default(x, kernel, stride, pads, False, True)
    return mean * (sizes[0] * sizes[1] / divisor)


def _with_zeros(x: Tensor, kernel: Sequence[int], steps: Sequence[int], padding: Sequence[int]) -> Tensor:
    """Pad an image so that windows that would be cut off at its end are whole. One beyond the padding is not read."""
    amounts: list[int] = []
    for size, width, step, pad in zip(x.shape[-2:], kernel, steps, padding, strict=True):
        last = -(-(size + 2 * pad - width) // step) * step
        last -= step if last >= size + pad else 0
        amounts = [pad, max(pad, last + width - size - pad), *amounts]
    return F.pad(x, amounts)


def _linear_of_a_row(x: Tensor, size: Any, align: bool, factors: Any = None) -> Tensor:
    sizes = None if size is None else [1, *size]
    wide = None if factors is None else [1.0, *factors]
    return word(aten.upsample_bilinear2d.vec, x.unsqueeze(2), sizes, align, wide).squeeze(2)


NEEDED_BY_ONNX: Mapping[Any, Words] = {aten.avg_pool2d.default: _divide_by_window, **ADAPTIVE, **MEDIANS}
"""The spellings that ONNX needs in float files too: torch's exporter has no other, or a wrong one."""

SPELLINGS: Mapping[Any, Words] = {
    **MOVES_IN_OTHER_WORDS,
    **WINDOWS_IN_OTHER_WORDS,
    **EXTREMES_IN_OTHER_WORDS,
    **NEEDED_BY_ONNX,
    aten.upsample_linear1d.vec: _linear_of_a_row,
}
"""All spellings: rules and lowerings see none of these operators."""


def canonicalize(exported: ExportedProgram) -> None:
    """Rewrite a traced network, in place."""
    spell_all(exported, SPELLINGS)
    for node in list(exported.graph.nodes):
        if node.op != "call_function":
            continue
        if node.target is aten.silu.default:
            (x,) = node.args
            new = insert_call(node, aten.mul.Tensor, (x, insert_call(node, aten.sigmoid.default, (x,))))
            replace_node(exported, node, new)
        elif node.target is aten.mean.dim:
            _pool_mean(exported, node)
        elif node.target is aten.stack.default:
            _concatenate(exported, node)
        elif node.target is aten.mT.default:
            replace_node(exported, node, insert_call(node, aten.transpose.int, (node.args[0], -2, -1)))
        elif node.target is aten.linear.default and node.meta["val"].ndim > 2:
            _flatten_linear(exported, node)
        elif node.target in CLAMPS:
            _clamp_before_reshape(exported, _clamp_before_detach(exported, node))
    exported.graph_module.recompile()


def _concatenate(exported: ExportedProgram, node: Node) -> None:
    parts = node.args[0]
    assert isinstance(parts, list | tuple)
    axis = int(node.args[1] if len(node.args) > 1 else 0) % node.meta["val"].ndim  # type: ignore[arg-type]
    rows = [insert_call(node, aten.unsqueeze.default, (part, axis)) for part in parts]
    replace_node(exported, node, insert_call(node, aten.cat.default, (rows, axis)))


def merge_equal(exported: ExportedProgram) -> None:
    """Compute once what is computed twice from the same values, in place, but for what is random in training.

    Exporters do this too; doing it first, in training as well, keeps the names of what is left in step with the file.
    """
    seen: dict[Any, Node] = {}
    for node in list(exported.graph.nodes):
        if node.op != "call_function" or writes_in_place(node) or node.target in NOT_MERGED:
            continue
        key = (node.target, str(node.args), str(node.kwargs))  # nodes print as their names, which are unique
        first = seen.setdefault(key, node)
        if first is not node:
            replace_node(exported, node, first)
    exported.graph_module.recompile()


def _pool_mean(exported: ExportedProgram, node: Node) -> None:
    x, dimensions = node.args[0], node.args[1]
    keep = bool(node.args[2]) if len(node.args) > 2 else bool(node.kwargs.get("keepdim", False))
    assert isinstance(x, Node)
    value = x.meta["val"]
    if value.ndim != 4 or not isinstance(dimensions, list | tuple) or "dtype" in node.kwargs:
        return
    if sorted(int(d) % 4 for d in dimensions) != [2, 3]:  # type: ignore[arg-type]
        return
    new = insert_call(node, aten.adaptive_avg_pool2d.default, (x, [1, 1]))
    if not keep:
        new = insert_call(node, aten.flatten.using_ints, (new, 1))
    replace_node(exported, node, new)


def _flatten_linear(exported: ExportedProgram, node: Node) -> None:
    x = node.args[0]
    assert isinstance(x, Node)
    sizes = list(node.meta["val"].shape)
    if sum(not isinstance(size, int) for size in sizes) > 1:
        return
    sizes = [size if isinstance(size, int) else -1 for size in sizes]
    flat = insert_call(node, aten.reshape.default, (x, [-1, x.meta["val"].shape[-1]]))
    linear = insert_call(node, aten.linear.default, (flat, *node.args[1:]))
    replace_node(exported, node, insert_call(node, aten.reshape.default, (linear, sizes)))


def _clamp_before_detach(exported: ExportedProgram, node: Node) -> Node:
    """Swap the two; returns the clamp. Only training has a detach left, and it must see the layers that a file has."""
    detach = node.args[0]
    if not isinstance(detach, Node) or detach.target is not aten.detach.default or len(detach.users) > 1:
        return node
    clamp = insert_call(node, node.target, (detach.args[0], *node.args[1:]), dict(node.kwargs))
    replace_node(exported, node, insert_call(node, aten.detach.default, (clamp,)))
    exported.graph.erase_node(detach)
    return clamp


def _clamp_before_reshape(exported: ExportedProgram, node: Node) -> None:
    reshape = node.args[0]
    if not isinstance(reshape, Node) or reshape.target is not aten.reshape.default or len(reshape.users) > 1:
        return
    linear, sizes = reshape.args
    assert isinstance(linear, Node)
    if linear.target is not aten.linear.default or len(linear.users) > 1:
        return
    clamp = insert_call(node, node.target, (linear, *node.args[1:]), dict(node.kwargs))
    replace_node(exported, node, insert_call(node, aten.reshape.default, (clamp, sizes)))
    exported.graph.erase_node(reshape)


def refuse_writes(exported: ExportedProgram) -> None:
    """Refuse a network with a write that codeq/graph/writes.py could not follow: a quantizer would come in between.

    Raises:
        TraceError: Naming the operator.
    """
    for node, name in layer_names(exported.graph).items():
        if writes_in_place(node):
            raise TraceError(f"{name} writes in place into a view that cannot be followed; use the operator without _")
