"""These operators move or select values: exact, on floats and on codes alike. Codes keep their grid."""

import operator

import numpy as np
import torch
from torch.fx import Node

from export.program.arguments import fill
from export.tflite.builder.builder import Builder
from export.tflite.builder.destination import Destination, find_destination
from export.tflite.builder.refusal import CannotLower
from export.tflite.builder.value import Value
from export.tflite.file.graph import Tensor, TensorGrid
from export.tflite.operators.convolution import CONVOLUTIONS
from export.tflite.operators.gather import gather, lower_border
from export.tflite.operators.linear import flatten_columns
from export.tflite.operators.registry import lowers
from export.tflite.operators.requantization import check_ratio
from export.tflite.operators.window import zero_padding
from export.tflite.weights.layout import flat_order, identity

aten = torch.ops.aten

PARTS = frozenset(
    {aten.chunk.default, aten.split.Tensor, aten.split_with_sizes.default, aten.split.sizes, aten.unbind.int}
)
"""Operators with several results."""


@lowers(
    aten.alias.default,
    aten.clone.default,
    aten.contiguous.default,
    aten.detach.default,
    aten.dropout.default,
    aten.feature_dropout.default,
)
def lower_identity(build: Builder, node: Node) -> None:
    """Write nothing: the value is the operand's."""
    build.values.set(node, build.values.read(node.args[0]))


@lowers(
    aten.flatten.using_ints,
    aten.reshape.default,
    aten.squeeze.default,
    aten.unflatten.int,
    aten.view.default,
)
def lower_reshape(build: Builder, node: Node) -> None:
    """Write RESHAPE of PyTorch's order; an image for a linear layer stays as it lies."""
    x = node.args[0]
    assert isinstance(x, Node)
    if flatten_columns(build, node, x):
        return
    value = build.values.read(x)
    shape, flat = build.program.shape(x), build.program.shape(node)
    if node.target is aten.flatten.using_ints and _flatten_neighbours(build, node, value, shape):
        return
    # With every axis but one of size 1, nothing moves: no transpose in front.
    moved = flat_order(shape, value.order) != flat_order(shape, identity(len(shape)))
    if moved or value.order[:1] != (0,):
        value = build.values.read(x, identity(len(shape)))
    build.values.set(node, build.writer.reshape(value, flat, build.program.open_axes(node), node.name))


def _flatten_neighbours(build: Builder, node: Node, value: Value, shape: tuple[int, ...]) -> bool:
    """Flatten axes that lie next to each other as stored, the others where they are; whether it was done."""
    first, last = (int(axis) % len(shape) for axis in (*node.args[1:], 0, -1)[:2])  # type: ignore[arg-type]
    if len(node.args) == 2:
        last = len(shape) - 1
    flattened = tuple(range(first, last + 1))
    place = value.order.index(first)
    if first == 0 or value.order[place : place + len(flattened)] != flattened:
        return False
    order = tuple(axis - max(0, min(axis, last) - first) for axis in value.order if axis not in flattened[1:])
    _reshape_in_order(build, node, value, order)
    return True


@lowers(aten.unsqueeze.default)
def lower_unsqueeze(build: Builder, node: Node) -> None:
    """Write RESHAPE. The axis goes behind the batch as stored: a sequence with channels last becomes an image."""
    value = build.values.read(node.args[0])
    rank = len(value.order)
    axis = int(node.args[1]) % (rank + 1)  # type: ignore[arg-type]
    order = [other + (other >= axis) for other in value.order]
    order.insert(1 if axis and value.order[:1] == (0,) else 0, axis)
    _reshape_in_order(build, node, value, tuple(order))


@lowers(aten.squeeze.dim, aten.squeeze.dims)
def lower_squeeze(build: Builder, node: Node) -> None:
    """Write RESHAPE, the other axes in the order in which they are stored."""
    x = node.args[0]
    value, shape = build.values.read(x), build.program.shape(x)  # type: ignore[arg-type]
    given = node.args[1] if isinstance(node.args[1], list | tuple) else [node.args[1]]
    axes = [int(axis) % len(shape) for axis in given]  # type: ignore[arg-type]
    gone = [axis for axis in axes if shape[axis] == 1 and axis not in build.program.open_axes(x)]  # type: ignore[arg-type]
    kept = [axis for axis in range(len(shape)) if axis not in gone]
    _reshape_in_order(build, node, value, tuple(kept.index(axis) for axis in value.order if axis in kept))


def _reshape_in_order(build: Builder, node: Node, value: Value, order: tuple[int, ...]) -> None:
    like = build.program.like(node, order)
    made = build.writer.reshape(value, like.shape, like.open_batch, node.name)
    build.values.set(node, Value(made.tensor, order, made.quantization))


@lowers(aten.permute.default, aten.transpose.int, aten.t.default)
def lower_permute(build: Builder, node: Node) -> None:
    """Write nothing: the tensor is the same, its axes have other names."""
    x = node.args[0]
    value = build.values.read(x)
    rank = len(value.order)
    axes = list(range(rank))
    if node.target is aten.permute.default:
        axes = [int(axis) % rank for axis in node.args[1]]  # type: ignore[union-attr,arg-type]
    elif rank > 1:
        first, second = (int(axis) % rank for axis in (node.args[1:] or (0, 1)))  # type: ignore[arg-type]
        axes[first], axes[second] = axes[second], axes[first]
    build.values.set(node, Value(value.tensor, tuple(axes.index(axis) for axis in value.order), value.quantization))


@lowers(aten.constant_pad_nd.default, aten.pad.default)
def lower_pad(build: Builder, node: Node) -> None:
    """Write PAD with zeros, which a convolution that alone reads it takes over; PADV2 with another number."""
    if zero_padding(node) is not None and len(node.users) == 1:
        reader = next(iter(node.users))
        if reader.target in CONVOLUTIONS and reader.args[0] is node:
            return
    place = 2 if node.target is aten.constant_pad_nd.default else 3
    mode = str(node.args[2]) if place == 3 and len(node.args) > 2 else "constant"
    number = float(node.args[place] or 0) if len(node.args) > place else 0.0  # type: ignore[arg-type]
    amounts = [int(amount) for amount in node.args[1]]  # type: ignore[union-attr,arg-type]
    if mode != "constant" or max(amounts, default=0) <= 0:
        lower_border(build, node, mode, amounts)
        return
    if min(amounts) < 0:
        raise CannotLower("it pads on one side and cuts off on another")
    value = build.values.read_float(node.args[0]) if number else build.values.read(node.args[0])
    rank = len(value.order)
    pairs = [(0, 0)] * rank
    for index in range(len(amounts) // 2):
        pairs[rank - 1 - index] = (amounts[2 * index], amounts[2 * index + 1])
    operands: list[Value | int] = [value, build.writer.indices([pairs[axis] for axis in value.order], "paddings")]
    if number:
        operands.append(build.writer.number(np.array(number, np.float32), "number"))
    build.values.result(node, "PADV2" if number else "PAD", operands, value.order, quantization=value.quantization)


@lowers(aten.cat.default)
def lower_concatenation(build: Builder, node: Node) -> None:
    """Write CONCATENATION. Codes of other grids are requantized to the result's first, each by one rounding."""
    parts: list[Node] = list(node.args[0])  # type: ignore[arg-type]
    rank = len(build.program.shape(node))
    axis = int(node.args[1] if len(node.args) > 1 else 0) % rank  # type: ignore[arg-type]
    computed = [part for part in parts if part in build.values]
    order = build.values.read((computed or parts)[0]).order
    integer = build.values.are_codes(*parts)
    target = find_destination(build.program, node, integer=integer)
    grids = [build.values.read(part).quantization for part in parts]
    grid = target.quantization
    if integer and grid is None and all(g is not None and g.same_as(grids[0]) for g in grids):
        grid = grids[0]
    if grid is None or target.activation:
        target = Destination(node)
        operands = [build.values.read_float(part, order) for part in parts]
        grid = None
    else:
        operands = [_on_grid(build, node, build.values.read(part, order), grid) for part in parts]
        build.integer[build.program.name(node)] = "CONCATENATION"
    build.values.result(
        node, "CONCATENATION", operands, order, target=target, quantization=grid, axis=order.index(axis)
    )


def _on_grid(build: Builder, node: Node, value: Value, grid: TensorGrid) -> Value:
    if value.quantization is None or grid.same_as(value.quantization):
        return value
    check_ratio(build.program.name(node), "QUANTIZE", value.quantization.scale, grid)
    source = build.writer.tensor(value)
    like = Tensor(f"{source.name}/requantized", source.shape, source.dtype, None, grid, source.open_batch)
    return build.writer.operator("QUANTIZE", [value], like, value.order)


@lowers(aten.slice.Tensor)
def lower_slice(build: Builder, node: Node) -> None:
    """Write STRIDED_SLICE along one axis."""
    x, axis, start, end, step = fill(node, None, 0, None, None, 1)
    shape = build.program.shape(x)
    axis = int(axis) % len(shape)
    if axis in build.program.open_axes(x):
        if (start or 0) == 0 and build.program.open_axes(node) == build.program.open_axes(x):
            build.values.set(node, build.values.read(x))
            return
        raise CannotLower("it cuts the batch")
    begin, stop, _ = slice(start, end, None).indices(shape[axis])
    value = build.values.read(x)
    _strided(build, node, value, axis, begin, stop, int(step), shrink=False)


@lowers(aten.select.int)
def lower_select(build: Builder, node: Node) -> None:
    """Write STRIDED_SLICE of one value along an axis, which goes."""
    x, axis, index = node.args
    shape = build.program.shape(x)  # type: ignore[arg-type]
    axis = int(axis) % len(shape)  # type: ignore[arg-type]
    if axis in build.program.open_axes(x):  # type: ignore[arg-type]
        raise CannotLower("it picks from the batch")
    begin = int(index) % shape[axis]  # type: ignore[arg-type]
    _strided(build, node, build.values.read(x), axis, begin, begin + 1, 1, shrink=True)


def _strided(
    build: Builder, node: Node, value: Value, axis: int, begin: int, end: int, step: int, *, shrink: bool
) -> None:
    rank = len(value.order)
    place = value.order.index(axis)
    begins, ends, steps = [0] * rank, [0] * rank, [1] * rank
    begins[place], ends[place], steps[place] = begin, end, step
    everything = sum(1 << other for other in range(rank) if other != place)
    order = value.order
    if shrink:
        order = tuple(other - (other > axis) for other in order if other != axis)
    build.values.result(
        node,
        "STRIDED_SLICE",
        [
            value,
            build.writer.indices(begins, "begin"),
            build.writer.indices(ends, "end"),
            build.writer.indices(steps, "step"),
        ],
        order,
        quantization=value.quantization,
        beginMask=everything,
        endMask=everything,
        shrinkAxisMask=1 << place if shrink else 0,
    )


@lowers(*PARTS)
def lower_parts(build: Builder, node: Node) -> None:
    """Write nothing: each part is sliced where it is taken."""


@lowers(operator.getitem, any_type=True)
def lower_part(build: Builder, node: Node) -> None:
    """Write STRIDED_SLICE of one of several parts, or give one of several results."""
    source, index = node.args
    assert isinstance(source, Node)
    assert isinstance(index, int)
    part = build.values.part(source, index)
    if part is not None:
        build.values.set(node, part)
        return
    if source.target not in PARTS:
        raise CannotLower(f"it takes one result of {source.target}, which has no lowering")
    x = source.args[0]
    shape = build.program.shape(x)  # type: ignore[arg-type]
    place = 1 if source.target is aten.unbind.int else 2
    axis = int(source.args[place] if len(source.args) > place else 0) % len(shape)  # type: ignore[arg-type]
    if axis in build.program.open_axes(x):  # type: ignore[arg-type]
        raise CannotLower("it picks from the batch")
    if source.target is aten.unbind.int:
        _strided(build, node, build.values.read(x), axis, index, index + 1, 1, shrink=True)
        return
    sizes = [int(part.shape[axis]) for part in source.meta["val"]]
    begin = sum(sizes[:index])
    _strided(build, node, build.values.read(x), axis, begin, begin + sizes[index], 1, shrink=False)


@lowers(aten.expand.default)
def lower_expand(build: Builder, node: Node) -> None:
    """Write GATHER of the first place for each copy. What repeats a constant along the batch needs no lowering."""
    x = node.args[0]
    assert isinstance(x, Node)
    wanted, shape = build.program.shape(node), build.program.shape(x)
    missing = len(wanted) - len(shape)
    if build.program.open_axes(node) != tuple(axis + missing for axis in build.program.open_axes(x)):
        raise CannotLower("it repeats computed values along the batch")
    value = build.values.read(x)
    if missing:
        value = build.values.read(x, identity(len(shape)))
        open_axes = build.program.open_axes(node)
        value = build.writer.reshape(value, (1,) * missing + shape, open_axes, f"{node.name}/wide")
    wide = (1,) * missing + shape
    repeated = {axis: np.zeros(wanted[axis], int) for axis in range(len(wanted)) if wanted[axis] != wide[axis]}
    build.values.set(node, gather(build, value, repeated, node.name))
