"""One GATHER of the flattened tensor picks values by positions on several axes. Exact, on floats and on codes.

x[:, [0, 1], [2, 3]]      ->  reshape to (batch, all others), GATHER of the positions that PyTorch's rule gives
gather(x, 1, constant)    ->  likewise
gather(x, 3, computed)    ->  GATHER with as many batch dimensions as there are other axes
x[arange(batch), computed]  ->  GATHER with the batch as its one batch dimension
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.fx import Node

from export.program.arguments import fill
from export.tflite.builder.builder import Builder
from export.tflite.builder.per_input import per_input_constant
from export.tflite.builder.refusal import CannotLower
from export.tflite.builder.value import Value
from export.tflite.operators.registry import lowers
from export.tflite.weights.layout import identity

aten = torch.ops.aten


@lowers(aten.gather.default, any_type=True)
def lower_gather(build: Builder, node: Node) -> None:
    """Write GATHER: of positions where the numbers are constant, else along one axis of each row."""
    x, axis, numbers = node.args[:3]
    assert isinstance(x, Node)
    assert isinstance(numbers, Node)
    shape = build.program.shape(x)
    axis = int(axis) % len(shape)  # type: ignore[arg-type]
    if axis in build.program.open_axes(x):
        raise CannotLower("it picks from the batch")
    constant = per_input_constant(build.program, numbers)
    constant = build.program.constant(numbers) if constant is None else constant
    if constant is not None:
        pick_positions(build, node, x, _positions(build, x).gather(axis, torch.from_numpy(constant)))
        return
    others = [place for place in range(len(shape)) if place != axis]
    picked = build.program.shape(numbers)
    if any(picked[place] != shape[place] for place in others):
        raise CannotLower("its numbers are fewer than its values on another axis than the one that it picks along")
    order = (*others, axis)
    operands = [build.values.read(operand, order) for operand in (x, numbers)]
    build.values.result(
        node, "GATHER", operands, order, quantization=operands[0].quantization, axis=len(others), batchDims=len(others)
    )


def pick_of_each_input(build: Builder, node: Node, x: Node, numbers: Node) -> None:
    """Write GATHER along axis 1, one number for each input of the batch."""
    rank = len(build.program.shape(x))
    if build.program.open_axes(numbers) != (0,) or len(build.program.shape(numbers)) != 1:
        raise CannotLower("it indexes with computed numbers, expected one for each input")
    value, picked = build.values.read(x, identity(rank)), build.values.read(numbers)
    order = identity(rank - 1)
    build.values.result(node, "GATHER", [value, picked], order, quantization=value.quantization, axis=1, batchDims=1)


def pick_on_several_axes(build: Builder, node: Node) -> None:
    """Write GATHER of the positions that constant indices on several axes name."""
    x, indices = node.args[:2]
    assert isinstance(x, Node)
    assert isinstance(indices, list | tuple)
    if any(index is not None and place in build.program.open_axes(x) for place, index in enumerate(indices)):
        raise CannotLower("it indexes the batch and another axis in a way that has no counterpart")
    found: list[Tensor | slice] = []
    for index in indices:
        numbers = None if index is None else build.program.constant(index)
        if index is not None and numbers is None:
            raise CannotLower("it indexes with computed numbers")
        found.append(slice(None) if numbers is None else torch.from_numpy(numbers.copy()))
    pick_positions(build, node, x, _positions(build, x)[tuple(found)])


def pick_positions(build: Builder, node: Node, x: Node, positions: Tensor) -> None:
    """Write GATHER along what the axes behind the batch are flattened to.

    Args:
        build, node: As for a lowering.
        x: What is picked from; its first axis alone may be open.
        positions: In the flattened axes, of the result's shape for a batch of 1.
    """
    shape, open_axes = build.program.shape(x), build.program.open_axes(x)
    value = build.values.read(x, identity(len(shape)))
    if not open_axes:
        flat = build.writer.reshape(value, (math.prod(shape),), (), f"{node.name}/flat")
        order, rows = identity(positions.ndim), positions
    else:
        (batch,) = build.program.open_axes(node)
        flat = build.writer.reshape(value, (1, math.prod(shape)), (0,), f"{node.name}/flat")
        order = (batch, *(axis for axis in range(positions.ndim) if axis != batch))
        rows = positions.permute(order)[0]
    places = build.writer.number(np.ascontiguousarray(rows.numpy().astype(np.int32)), "places")
    build.values.result(
        node, "GATHER", [flat, places], order, quantization=value.quantization, axis=len(flat.order) - 1, batchDims=0
    )


def _positions(build: Builder, x: Node) -> Tensor:
    """Number the values of one input; a batch that is open has one."""
    if build.program.open_axes(x) not in ((), (0,)):
        raise CannotLower("the batch is not its first axis")
    shape = build.program.shape(x)
    return torch.arange(math.prod(shape)).reshape(shape)


def join_with_part(build: Builder, node: Node, x: Node, part: Node, axis: int, places: np.ndarray) -> None:
    """Write CONCATENATION of a tensor and a part that replaces some of it, and GATHER in the order that results.

    Args:
        build, node: As for a lowering.
        x, part: Read as floats.
        axis: Along which the part lies.
        places: Of the part's values in `x`.
    """
    value = build.values.read_float(x)
    size = build.program.shape(x)[axis]
    numbers = np.arange(size)
    numbers[places] = size + np.arange(places.size)
    place = value.order.index(axis)
    like = build.program.like(node, value.order, name=f"{node.name}/both")
    sizes = [*like.shape]
    sizes[place] += places.size
    both = build.writer.operator(
        "CONCATENATION",
        [value, build.values.read_float(part, value.order)],
        type(like)(like.name, tuple(sizes), like.dtype, None, None, like.open_batch),
        value.order,
        axis=place,
    )
    rows = build.writer.number(numbers.astype(np.int32), "places")
    build.values.set(node, _along(build, node, both, rows, place))


def _along(build: Builder, node: Node, value: Value, rows: int, place: int) -> Value:
    like = build.program.like(node, value.order)
    return build.writer.operator("GATHER", [value, rows], like, value.order, axis=place, batchDims=0)


@lowers(aten.slice_scatter.default)
def lower_slice_scatter(build: Builder, node: Node) -> None:
    """Write CONCATENATION with the part, and GATHER of each value from where it now is."""
    x, part, axis, start, end, step = fill(node, None, None, 0, None, None, 1)
    shape = build.program.shape(x)
    axis = int(axis) % len(shape)
    if axis in build.program.open_axes(x):
        raise CannotLower("it writes into a part of the batch")
    join_with_part(build, node, x, part, axis, np.arange(shape[axis])[slice(start, end, step)])
