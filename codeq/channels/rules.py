"""These rules say, operator by operator, what of its operands stays when something of its result does, and back.

A convolution or linear layer parts the channels that it reads from those that it makes; who asks says which it reads.
Everything else moves channels, or computes each from those of the same place, so that operands and result keep the same
ones; what is not listed keeps all.
"""

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import Node

from codeq.channels.constants import TRANSPOSED, channels_of, groups_of, is_layer, layer_weight, parts_of
from codeq.channels.kept import KeptAxes
from codeq.graph.nodes import operator_name, scope

aten = torch.ops.aten
Reads = Callable[[Node, Tensor], Tensor | None]
"""Says which channels a convolution or linear layer without groups reads: of the layer, and its weight, output channels
first."""
SPATIAL = frozenset(
    {
        *("max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d"),
        *("adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d"),
        *("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "upsample_bilinear2d", "upsample_linear1d"),
        *("upsample_bicubic2d", "pad", "constant_pad_nd", "reflection_pad2d", "replication_pad2d"),
    }
)
"""Operators that mix places of a channel and no channels, which are axis 1."""
RESHAPES = frozenset({"view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "_unsafe_view", "view_as"})
PADS = frozenset({"pad", "constant_pad_nd"})
CHANNEL_PADS = ("ZeroPad", "ConstantPad")
"""What classes of torch.nn are called whose paddings can change with the channels; numbers in a forward cannot."""
ATTENTION = "scaled_dot_product_attention"
ONE_AXIS = frozenset({"softmax", "log_softmax", "_softmax", "_log_softmax", "cumsum"})
"""Operators that mix the entries of one axis, their second argument."""
MEANS = frozenset({"mean", "sum", "amax", "amin", "var", "std"})


def fixed_numbers(exported: ExportedProgram) -> tuple[frozenset[str], ...]:
    """Say what may have to stay as it is, less first: what a forward has as a number cannot be seen in its graph.

    Returns:
        For `settle`: nothing, then the heads of attentions, then the sizes of reshapes too.
    """
    heads, reshapes = (
        frozenset(node.name for node in exported.graph.nodes if operator_name(node) in names)
        for names in ({ATTENTION}, RESHAPES)
    )
    return tuple(dict.fromkeys((frozenset[str](), heads, heads | reshapes)))


def settle(kept: KeptAxes, reads: Reads, fixed: frozenset[str] = frozenset()) -> None:
    """Let everything stay that has to.

    Args:
        kept: In which nothing stays yet.
        reads: Says what layers read.
        fixed: Names of reshapes whose sizes cannot change, and of attentions whose heads cannot.
    """
    nodes = [node for node in kept.exported.graph.nodes if node.op != "placeholder" or node in kept.axes]
    while True:
        kept.changed = False
        for node in reversed(nodes):
            _apply(kept, node, reads, fixed)
        for one, other in kept.ties:
            for axis in range(kept.rank(one)):
                kept.link(one, axis, other, axis)
        for axes in kept.axes.values():  # no tensor without entries
            for mine in axes:
                if mine is not None and len(mine) and not bool(mine.any()):
                    mine[0] = True
                    kept.changed = True
        if not kept.changed:
            return


def _apply(kept: KeptAxes, node: Node, reads: Reads, fixed: frozenset[str]) -> None:
    name = operator_name(node)
    if node.op == "placeholder":
        if node not in kept.tensors or not (node.users or any(node in tie for tie in kept.ties)):
            kept.whole(node)
    elif node.op == "call_function" and node not in kept.axes:
        if isinstance(node.meta.get("val"), tuple | list) and name != "unbind":  # such as the parts of a split
            _keep_all(kept, node)
    elif node.target is operator.getitem and operator_name(_arguments(node)[0]) == "unbind":
        _unbound(kept, node, *_arguments(_arguments(node)[0]))
    elif name == ATTENTION and node.name not in fixed:
        _attention(kept, node)
    elif is_layer(node):
        _layer(kept, node, reads)
    elif node.op == "output" or node.op != "call_function":
        _keep_all(kept, node)
    elif node.target is aten.batch_norm.default:
        x, *parameters = node.args[:5]
        _same(kept, x, node)
        for parameter in parameters:
            if isinstance(parameter, Node):
                kept.link(parameter, 0, node, 1)
    elif node.target is aten.embedding.default:
        weight, indices = node.args[:2]
        kept.whole(weight, (0,))
        kept.link(weight, 1, node, kept.rank(node) - 1)
        kept.whole(node, range(kept.rank(node) - 1))
        kept.whole(indices)
    elif name == "prelu":
        x, slopes = node.args[:2]
        _same(kept, x, node)
        if node.meta["val"].ndim > 1 and slopes in kept.axes and _sizes(slopes) != [1]:
            kept.link(slopes, 0, node, 1)
        else:
            kept.whole(slopes)
    elif node.target is aten.cat.default:
        _concatenate(kept, node)
    elif name in PADS and kept.rank(node) > 2 and any(padded_channels(node)):
        _pad_channels(kept, node)
    elif name == "slice":
        _slice(kept, node)
    elif name in SPATIAL and kept.rank(node) > 2:
        _same(kept, node.args[0], node, axes=(0, 1))
    elif name in ONE_AXIS:
        _same(kept, node.args[0], node)
        kept.whole(node, (int(_arguments(node)[1]),))
    elif name in MEANS and len(node.args) > 1 and isinstance(node.args[1], list | tuple):
        _reduce(kept, node)
    elif name == "layer_norm":
        _same(kept, node.args[0], node)
        kept.whole(node, range(-len(_arguments(node)[1]), 0))
        for parameter in node.args[2:4]:
            kept.whole(parameter)
    elif name in ("permute", "transpose", "t"):
        _permute(kept, node, name)
    elif name in RESHAPES and node.name not in fixed and isinstance(node.args[0], Node):
        _reshape(kept, node.args[0], node)
    elif torch.Tag.pointwise in getattr(node.target, "tags", ()) or name in ("clone", "contiguous", "dropout"):
        for operand in node.all_input_nodes:
            _broadcast(kept, operand, node)
    else:
        _keep_all(kept, node)


def _keep_all(kept: KeptAxes, node: Node) -> None:
    for operand in (*node.all_input_nodes, node):
        kept.whole(operand)


def _same(kept: KeptAxes, x: Any, node: Node, axes: Sequence[int] | None = None) -> None:
    """Link the axes of an operand and a result of equal rank; those not named stay whole."""
    for axis in range(kept.rank(node)):
        if axes is None or axis in axes:
            kept.link(x, axis, node, axis)
        else:
            kept.whole(x, (axis,))
            kept.whole(node, (axis,))


def _broadcast(kept: KeptAxes, operand: Node, node: Node) -> None:
    if operand not in kept.axes:
        return
    offset = kept.rank(node) - kept.rank(operand)
    for axis in range(kept.rank(operand)):
        mine = kept.of(operand, axis)
        if mine is not None and len(mine) == 1:
            kept.whole(operand, (axis,))
        else:
            kept.link(operand, axis, node, axis + offset)


def _layer(kept: KeptAxes, node: Node, reads: Reads) -> None:
    x, weight, *rest = node.args[:3]
    bias = rest[0] if rest else None
    parameters = layer_weight(kept, node)
    if parameters is None or not isinstance(x, Node) or x not in kept.axes:
        _keep_all(kept, node)
        return
    values, _ = parameters
    is_linear = node.target is aten.linear.default
    axis = channels_of(kept, node)
    out_axis, in_axis = (1, 0) if node.target in TRANSPOSED else (0, 1)
    others = [other for other in range(kept.rank(node)) if other != axis]
    for other in others:
        if is_linear:
            kept.link(x, other, node, other)
        else:
            kept.whole(x, (other,))
            kept.whole(node, (other,))
    kept.whole(weight, range(2, values.ndim))
    kept.link(weight, out_axis, node, axis)
    if isinstance(bias, Node):
        kept.link(bias, 0, node, axis)
    groups = groups_of(node)
    if groups > 1:
        kept.whole(weight, (in_axis,))
        _groups(kept, x, node, groups)
        return
    kept.grow(x, axis, reads(node, values))
    kept.link(weight, in_axis, x, axis)


def _groups(kept: KeptAxes, x: Node, node: Node, groups: int) -> None:
    """Let a group stay whole, its inputs and outputs, where anything of it stays."""
    sides = [(x, kept.of(x, 1)), (node, kept.of(node, 1))]
    masks = [mask.reshape(groups, -1).amax(1) for _, mask in sides if mask is not None]
    if len(masks) < len(sides):
        _keep_all(kept, node)
        return
    stays = torch.maximum(*masks)
    for side, mask in sides:
        assert mask is not None
        kept.grow(side, 1, stays.repeat_interleave(len(mask) // groups))


def _concatenate(kept: KeptAxes, node: Node) -> None:
    parts, axis = parts_of(kept, node)
    whole = kept.of(node, axis)
    sizes = [kept.of(part, axis) for part in parts]
    if whole is None or any(size is None for size in sizes):
        _keep_all(kept, node)
        return
    start = 0
    joined = torch.zeros_like(whole)
    for part, mine in zip(parts, sizes, strict=True):
        assert mine is not None
        kept.grow(part, axis, whole[start : start + len(mine)])
        joined[start : start + len(mine)] = mine
        start += len(mine)
        for other in range(kept.rank(node)):
            if other != axis:
                kept.link(part, other, node, other)
    kept.grow(node, axis, joined)


def padded_channels(node: Node) -> tuple[int, int]:
    """Say how many channels padding puts in front and behind."""
    sizes = [*map(int, _arguments(node)[1]), *[0] * 2 * len(_sizes(node))]
    place = 2 * (len(_sizes(node)) - 2)
    return sizes[place], sizes[place + 1]


def _pad_channels(kept: KeptAxes, node: Node) -> None:
    """Link what was padded to its place in the result: new channels stay where they are needed."""
    x = _arguments(node)[0]
    front, back = padded_channels(node)
    whole, mine = kept.of(node, 1), kept.of(x, 1)
    path, kind = scope(node)
    alone = sum(scope(other)[0] == path for other in kept.exported.graph.nodes if operator_name(other) in PADS) == 1
    can_change = alone and kind.startswith("torch.nn.") and kind.rpartition(".")[2].startswith(CHANNEL_PADS)
    if not can_change or min(front, back) < 0 or whole is None or mine is None:
        _keep_all(kept, node)
        return
    kept.grow(x, 1, whole[front : front + len(mine)])
    kept.grow(node, 1, torch.cat([torch.zeros(front, dtype=mine.dtype), mine, torch.zeros(back, dtype=mine.dtype)]))
    for axis in range(kept.rank(node)):
        if axis == 0:
            kept.link(x, axis, node, axis)
        elif axis > 1:
            kept.whole(x, (axis,))
            kept.whole(node, (axis,))


def changed_paddings(kept: KeptAxes) -> dict[str, tuple[int, int]]:
    """Give what modules that pad channels put in front and behind, by their names, where that has changed."""
    found = {}
    for node in kept.exported.graph.nodes:
        if operator_name(node) not in PADS or len(_sizes(node)) < 3 or not any(padded_channels(node)):
            continue
        stays, mine = kept.of(node, 1), kept.of(node.args[0], 1)
        if stays is not None and mine is not None and not bool(stays.all()):
            front, _ = padded_channels(node)
            found[scope(node)[0]] = int(stays[:front].sum()), int(stays[front + len(mine) :].sum())
    return found


def _slice(kept: KeptAxes, node: Node) -> None:
    """Link the axes that are not sliced; the one that is stays whole."""
    x, *rest = _arguments(node)
    sliced = int(rest[0]) % kept.rank(node) if rest else 0
    _same(kept, x, node, axes=[axis for axis in range(kept.rank(node)) if axis != sliced])


def _unbound(kept: KeptAxes, node: Node, x: Any, axis: Any = 0) -> None:
    """Link a part of a tensor that was taken apart along an axis, which stays whole."""
    axis = int(axis) % kept.rank(x)
    kept.whole(x, (axis,))
    for place in range(kept.rank(node)):
        kept.link(x, place + (place >= axis), node, place)


def _attention(kept: KeptAxes, node: Node) -> None:
    """Link the heads of queries, keys, values and result; a part of a head changes its scale, so that all of it stays.

    Operands are (N, heads, tokens, size); a mask stays whole.
    """
    query, key, value = _arguments(node)[:3]
    others = [operand for operand in node.all_input_nodes if operand not in (query, key, value)]
    if kept.rank(node) != 4 or any(kept.rank(operand) != 4 for operand in (query, key, value)):
        _keep_all(kept, node)
        return
    for operand in (query, key, value):
        kept.link(operand, 1, node, 1)
        kept.whole(operand, (0, 2, 3))
    kept.whole(node, (0, 2, 3))
    for other in others:
        kept.whole(other)


def _reduce(kept: KeptAxes, node: Node) -> None:
    x, axes = _arguments(node)[:2]
    rank = kept.rank(x)
    reduced = {int(axis) % rank for axis in axes}
    keeps = kept.rank(node) == rank
    kept.whole(x, sorted(reduced))
    place = 0
    for axis in range(rank):
        if axis in reduced:
            place += keeps
        else:
            kept.link(x, axis, node, place)
            place += 1


def _permute(kept: KeptAxes, node: Node, name: str) -> None:
    x, *given = _arguments(node)
    order = list(range(kept.rank(node)))
    if name == "permute":
        order = [int(axis) % len(order) for axis in given[0]]
    elif name == "transpose":
        one, other = (int(axis) % len(order) for axis in given)
        order[one], order[other] = order[other], order[one]
    else:
        order = order[::-1]
    for axis, source in enumerate(order):
        kept.link(x, source, node, axis)


def _reshape(kept: KeptAxes, x: Node, node: Node) -> None:
    """Link the blocks of axes that hold the same entries; open sizes stand for themselves."""
    before, after = (list(tensor.meta["val"].shape) for tensor in (x, node))
    first = second = 0
    while first < len(before) or second < len(after):
        ends = first, second
        while True:
            sizes = [math.prod(shape[start:end]) for shape, start, end in _spans(before, after, first, second, ends)]
            if ends[0] > first and ends[1] > second and _equal(*sizes):
                break
            if ends[0] >= len(before) and ends[1] >= len(after):
                break
            grow_first = ends[1] >= len(after) or (ends[0] < len(before) and not _larger(*sizes))
            ends = (ends[0] + 1, ends[1]) if grow_first else (ends[0], ends[1] + 1)
        _link_blocks(kept, x, range(first, ends[0]), node, range(second, ends[1]))
        first, second = ends


def _sizes(node: Any) -> list[Any]:
    return list(node.meta["val"].shape)


def _arguments(node: Node) -> tuple[Any, ...]:
    return node.args


def _spans(before: list[Any], after: list[Any], first: int, second: int, ends: tuple[int, int]) -> Any:
    return (before, first, ends[0]), (after, second, ends[1])


def _equal(one: Any, other: Any) -> bool:
    return str(one) == str(other)


def _larger(one: Any, other: Any) -> bool:
    """Tell whether the first product is larger; an open one is, so that what it stands beside grows."""
    if isinstance(one, int) and isinstance(other, int):
        return one > other
    return not isinstance(one, int)


def _link_blocks(kept: KeptAxes, x: Node, these: range, node: Node, those: range) -> None:
    sides = [(x, these, [kept.of(x, axis) for axis in these]), (node, those, [kept.of(node, axis) for axis in those])]
    if any(mask is None for _, _, masks in sides for mask in masks):
        if len(these) == len(those) == 1:
            return  # both are the same open axis
        for side, axes, _ in sides:
            kept.whole(side, axes)
        return
    while True:
        grids = [_outer(kept, [mask for mask in masks if mask is not None]) for _, _, masks in sides]
        if grids[0].numel() != grids[1].numel():
            for side, axes, _ in sides:
                kept.whole(side, axes)
            return
        stays = torch.maximum(*(grid.reshape(-1) for grid in grids))
        grew = False
        for side, axes, masks in sides:
            grid = stays.reshape([len(mask) for mask in masks if mask is not None])
            for place, axis in enumerate(axes):
                others = [other for other in range(grid.ndim) if other != place]
                mask = grid.amax(dim=others) if others else grid
                mine = masks[place]
                assert mine is not None
                grew |= bool((mask > mine).any())
                kept.grow(side, axis, mask)
        if not grew:
            return


def _outer(kept: KeptAxes, masks: list[Tensor]) -> Tensor:
    grid = kept.all_of(1).reshape(())
    for mask in masks:
        grid = torch.minimum(grid.unsqueeze(-1), mask)
    return grid
