"""GATHER picks values along an axis by constant numbers: values and codes move as they are. Exact.

x[:, numbers]                    ->  GATHER along that axis
x[arange(batch), numbers]        ->  GATHER along axis 1, as every input keeps its place in the batch
x[arange(batch)]                 ->  nothing
flip, roll                       ->  the positions backwards, or turned
x.repeat_interleave(counts, 1)   ->  each position as often as its constant count says
pad by reflect, replicate ...    ->  the positions that each mode reads beyond the borders
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.fx import Node

from codeq.graph.nodes import depends_on_input
from export.program.arguments import fill
from export.tflite.builder.builder import Builder
from export.tflite.builder.per_input import evaluate_for_batch
from export.tflite.builder.program_reader import ProgramReader
from export.tflite.builder.refusal import CannotLower
from export.tflite.builder.value import Value
from export.tflite.operators.positions import pick_of_each_input, pick_on_several_axes
from export.tflite.operators.registry import lowers
from export.tflite.weights.layout import CHANNELS_LAST, identity

aten = torch.ops.aten

BEYOND: Mapping[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "reflect": lambda places, size: size - 1 - np.abs(size - 1 - np.abs(places)),
    "replicate": lambda places, size: places.clip(0, size - 1),
    "circular": lambda places, size: places % size,
    "constant": lambda places, size: places,
}
"""The position that a padding reads for each, which may lie beyond the borders; what a constant would fill is cut."""


@lowers(aten.index_select.default, any_type=True)
def lower_index_select(build: Builder, node: Node) -> None:
    """Write GATHER along the axis."""
    axis, numbers = node.args[1:3]
    pick(build, node, {int(axis): _numbers(build.program, numbers)})  # type: ignore[arg-type]


@lowers(aten.flip.default)
def lower_flip(build: Builder, node: Node) -> None:
    """Write GATHER of the positions backwards."""
    x, axes = node.args
    shape = build.program.shape(x)  # type: ignore[arg-type]
    pick(build, node, {int(axis): np.arange(shape[int(axis)])[::-1] for axis in axes})  # type: ignore[arg-type, union-attr]


@lowers(aten.roll.default)
def lower_roll(build: Builder, node: Node) -> None:
    """Write GATHER of the positions turned."""
    x, shifts, axes = fill(node, None, None, [])
    if not axes:
        raise CannotLower("it rolls the flattened tensor; name its axes")
    shape = build.program.shape(x)
    turned: dict[int, np.ndarray] = {}
    for shift, axis in zip(shifts, axes, strict=True):
        places = turned.get(axis % len(shape), np.arange(shape[axis]))
        turned[axis % len(shape)] = np.roll(places, int(shift))
    pick(build, node, turned)


@lowers(aten.repeat_interleave.self_Tensor)
def lower_repeat_interleave(build: Builder, node: Node) -> None:
    """Write GATHER of the positions, each as often as constants say."""
    x, counts, axis = fill(node, None, None, None)
    times = build.program.constant(counts)
    if times is None:
        raise CannotLower("it repeats by computed counts")
    if axis is None:
        raise CannotLower("it repeats the flattened tensor; name an axis")
    if int(axis) % len(build.program.shape(x)) in build.program.open_axes(node):
        raise CannotLower("PyTorch does not know the size of its result; give it output_size")
    pick(build, node, {int(axis): np.repeat(np.arange(build.program.shape(x)[int(axis)]), times)})


@lowers(aten.pixel_shuffle.default)
def lower_pixel_shuffle(build: Builder, node: Node) -> None:
    """Write DEPTH_TO_SPACE, which takes the pixels of a block before its channels; PyTorch the channels before."""
    x, factor = node.args[0], int(node.args[1])  # type: ignore[arg-type]
    channels = build.program.shape(node)[1]
    numbers = np.arange(channels * factor**2).reshape(channels, -1).T.reshape(-1)
    image = _reorder_channels(build, build.values.read(x, CHANNELS_LAST[4]), numbers, f"{node.name}/channels")
    build.values.result(
        node, "DEPTH_TO_SPACE", [image], CHANNELS_LAST[4], quantization=image.quantization, blockSize=factor
    )


@lowers(aten.pixel_unshuffle.default)
def lower_pixel_unshuffle(build: Builder, node: Node) -> None:
    """Write SPACE_TO_DEPTH, and put the channels of each block before its pixels."""
    x, factor = node.args[0], int(node.args[1])  # type: ignore[arg-type]
    image = build.values.read(x, CHANNELS_LAST[4])
    like = build.program.like(node, CHANNELS_LAST[4], image.quantization, name=f"{node.name}/blocks")
    blocks = build.writer.operator("SPACE_TO_DEPTH", [image], like, CHANNELS_LAST[4], blockSize=factor)
    channels = build.program.shape(x)[1]  # type: ignore[arg-type]
    numbers = np.arange(channels * factor**2).reshape(-1, channels).T.reshape(-1)
    build.values.set(node, _reorder_channels(build, blocks, numbers, node.name))


def _reorder_channels(build: Builder, image: Value, numbers: np.ndarray, name: str) -> Value:
    rows = build.writer.number(numbers.astype(np.int32), "places")
    like = replace(build.writer.tensor(image), name=name)
    return build.writer.operator("GATHER", [image, rows], like, image.order, axis=3, batchDims=0)


def lower_border(build: Builder, node: Node, mode: str, amounts: list[int]) -> None:
    """Write GATHER of the positions that a padding reads; a negative amount cuts them off.

    Args:
        build, node: As for a lowering.
        mode: A key of `BEYOND`; "constant" is for amounts that are not positive.
        amounts: Before and after the last axis, then the one before it, and so on.
    """
    shape = build.program.shape(node.args[0])  # type: ignore[arg-type]
    picked = {}
    for index in range(len(amounts) // 2):
        axis = len(shape) - 1 - index
        before, after = amounts[2 * index : 2 * index + 2]
        if before or after:
            picked[axis] = BEYOND[mode](np.arange(-before, shape[axis] + after), shape[axis])
    pick(build, node, picked)


@lowers(aten.index.Tensor, any_type=True)
def lower_index(build: Builder, node: Node) -> None:
    """Write GATHER along the one axis that is indexed; the batch may be indexed by its own positions."""
    indices = node.args[1]
    assert isinstance(indices, list | tuple)
    places = [axis for axis, index in enumerate(indices) if index is not None]
    if places == [0] and _is_range_of_batch(build.program, indices[0]):
        build.values.set(node, build.values.read(node.args[0]))
        return
    if len(places) == 2 and places[0] == 0 and _is_range_of_batch(build.program, indices[0]):
        numbers = build.program.constant(indices[1])
        if numbers is None:
            pick_of_each_input(build, node, node.args[0], indices[1])  # type: ignore[arg-type]
            return
        if places[1] != 1 or (numbers.ndim and numbers.shape[0] != 1):
            raise CannotLower("it indexes the batch and another axis in a way that has no counterpart")
        pick(build, node, {1: numbers[0] if numbers.ndim else numbers})
        return
    if len(places) != 1:
        pick_on_several_axes(build, node)
        return
    pick(build, node, {places[0]: _numbers(build.program, indices[places[0]])})


def pick(build: Builder, node: Node, numbers: Mapping[int, np.ndarray]) -> None:
    """Gather along several axes, one after the other; a node that has more dimensions than its operand, along one."""
    x = node.args[0]
    assert isinstance(x, Node)
    shape = build.program.shape(x)
    same_rank = len(build.program.shape(node)) == len(shape)
    value = build.values.read(x) if same_rank else build.values.read(x, identity(len(shape)))
    order = value.order if same_rank else identity(len(build.program.shape(node)))
    sizes = list(shape)
    for axis, picked in numbers.items():
        axis %= len(shape)
        if axis in build.program.open_axes(x):
            raise CannotLower("it picks from the batch")
        places = picked.nonzero()[0] if picked.dtype == bool else picked
        rows = build.writer.number(np.where(places < 0, places + shape[axis], places).astype(np.int32), "places")
        sizes[axis] = places.size
        last = build.program.like(node, order, value.quantization)
        made = tuple(sizes[other] for other in order) if same_rank else last.shape
        like = replace(last, shape=made)
        place = value.order.index(axis)
        value = build.writer.operator("GATHER", [value, rows], like, order, axis=place, batchDims=0)
    build.values.set(node, Value(value.tensor, order, value.quantization))


def gather(build: Builder, value: Value, numbers: Mapping[int, np.ndarray], name: str) -> Value:
    """Gather along several axes of a value, one after the other; `numbers` are places by axis."""
    for axis, places in numbers.items():
        place = value.order.index(axis)
        source = build.writer.tensor(value)
        shape = (*source.shape[:place], places.size, *source.shape[place + 1 :])
        rows = build.writer.number(places.astype(np.int32), "places")
        like = replace(source, name=name, shape=shape)
        value = build.writer.operator("GATHER", [value, rows], like, value.order, axis=place, batchDims=0)
    return value


def _numbers(program: ProgramReader, index: Any) -> np.ndarray:
    numbers = program.constant(index)
    if numbers is None:
        raise CannotLower("it indexes with computed numbers")
    return numbers


def _is_range_of_batch(program: ProgramReader, index: Any) -> bool:
    """Tell whether an index is 0, 1, ... along the batch, whatever its size."""
    if not isinstance(index, Node) or program.open_axes(index) != (0,) or depends_on_input(index):
        return False
    return all(
        torch.equal(evaluate_for_batch(program, index, batch).flatten(), torch.arange(batch)) for batch in (1, 3)
    )
