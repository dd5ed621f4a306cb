"""TOPK_V2 gives the largest values of an axis in their order, and whole axes in order; CUMSUM gives running sums.

    topk, sort, argsort  ->  TOPK_V2 along the last axis as stored; of the smallest, of the negated values
    cumsum               ->  CUMSUM

The order is exact; of equal values the first comes first, also where PyTorch leaves that open. Sums are float sums.
"""

from dataclasses import replace

import numpy as np
import torch
from torch.fx import Node

from export.program.arguments import fill
from export.tflite.builder.builder import Builder
from export.tflite.builder.refusal import CannotLower
from export.tflite.builder.value import Value
from export.tflite.operators.reduction import LONG
from export.tflite.operators.registry import lowers

aten = torch.ops.aten

INT = np.dtype(np.int32)


@lowers(aten.topk.default)
def lower_topk(build: Builder, node: Node) -> None:
    """Write TOPK_V2; results in another order than the sorted one are allowed to be sorted."""
    x, count, axis, largest, _ = fill(node, None, None, -1, True, True)
    build.values.set_parts(node, _first(build, node, x, int(count), int(axis), descending=bool(largest)))


@lowers(aten.sort.default, aten.sort.stable)
def lower_sort(build: Builder, node: Node) -> None:
    """Write TOPK_V2 of all values."""
    axis, descending = _sort_arguments(node)
    x = node.args[0]
    assert isinstance(x, Node)
    build.values.set_parts(node, _first(build, node, x, None, axis, descending=descending))


@lowers(aten.argsort.default, aten.argsort.stable, any_type=True)
def lower_argsort(build: Builder, node: Node) -> None:
    """Write TOPK_V2 of all values, and take their places."""
    axis, descending = _sort_arguments(node)
    x = node.args[0]
    assert isinstance(x, Node)
    build.values.set(node, _first(build, node, x, None, axis, descending=descending)[1])


def _sort_arguments(node: Node) -> tuple[int, bool]:
    """Read axis and direction, which are positions or words by the overload."""
    given = node.args[1:]
    axis = node.kwargs.get("dim", given[0] if given else -1)
    descending = node.kwargs.get("descending", given[1] if len(given) > 1 else False)
    return int(axis), bool(descending)  # type: ignore[arg-type]


def _first(
    build: Builder, node: Node, x: Node, count: int | None, axis: int, *, descending: bool
) -> tuple[Value, Value]:
    """Write the first values of an axis in their order, and their places."""
    rank = len(build.program.shape(x))
    axis %= rank
    if axis in build.program.open_axes(x):
        raise CannotLower("it orders the batch")
    order = (*(other for other in range(rank) if other != axis), axis)
    if not build.program.open_axes(x):
        raise CannotLower("it orders what does not depend on the batch")
    value = build.values.read_float(x, order)
    source = build.writer.tensor(value)
    if not descending:
        value = build.writer.operator("NEG", [value], replace(source, name=f"{node.name}/negated"), order)
    count = source.shape[-1] if count is None else count
    like = replace(source, name=f"{node.name}/values", shape=(*source.shape[:-1], count))
    whole = replace(like, name=f"{node.name}/places", dtype=INT)
    number = build.writer.number(np.array(count, np.int32), "count")
    values, places = build.writer.operator_of_several("TOPK_V2", [value, number], [like, whole], order)
    if not descending:
        values = build.writer.operator("NEG", [values], like, order)
    long = replace(whole, dtype=LONG)
    return values, build.writer.operator("CAST", [places], long, order)


@lowers(aten.cumsum.default)
def lower_cumulative_sum(build: Builder, node: Node) -> None:
    """Write CUMSUM of floats."""
    x, axis = node.args[:2]
    shape = build.program.shape(x)  # type: ignore[arg-type]
    axis = int(axis) % len(shape)  # type: ignore[arg-type]
    if axis in build.program.open_axes(x):  # type: ignore[arg-type]
        raise CannotLower("it sums along the batch")
    value = build.values.read_float(x)
    number = build.writer.number(np.array(value.order.index(axis), np.int32), "axis")
    build.values.result(node, "CUMSUM", [value, number], value.order, exclusive=False, reverse=False)
