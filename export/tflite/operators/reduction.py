"""Sums and products over axes, and the place of the largest value, are computed on floats; largest and smallest values
of codes on codes.

Maxima, minima and their places are exact; of equal values the first counts, as in PyTorch. Sums and products are those
of floats in another order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.fx import Node

from export.program.arguments import fill
from export.tflite.builder.builder import Builder
from export.tflite.builder.refusal import CannotLower
from export.tflite.builder.value import Value
from export.tflite.file.graph import Tensor
from export.tflite.operators.registry import lowers
from export.tflite.weights.layout import Order

aten = torch.ops.aten

REDUCTIONS: Mapping[Any, str] = {
    aten.amax.default: "REDUCE_MAX",
    aten.amin.default: "REDUCE_MIN",
    aten.prod.dim_int: "REDUCE_PROD",
    aten.sum.dim_IntList: "SUM",
}
AS_THEY_ARE = frozenset({"REDUCE_MAX", "REDUCE_MIN"})
"""These take codes and integers too. A grid is monotonic: the code of the largest value is the largest code."""
ALONG: Mapping[Any, str] = {aten.max.dim: "REDUCE_MAX", aten.min.dim: "REDUCE_MIN"}
PLACES: Mapping[str, str] = {"REDUCE_MAX": "ARG_MAX", "REDUCE_MIN": "ARG_MIN"}
INT64 = 4
"""The schema's number of the type."""
LONG = np.dtype(np.int64)


@lowers(*REDUCTIONS)
def lower_reduction(build: Builder, node: Node) -> None:
    """Write one operator over any axes."""
    x, axes, keep = fill(node, None, [], False)
    axes = [axes] if isinstance(axes, int) else axes
    rank = len(build.program.shape(x))
    reduced = sorted({int(axis) % rank for axis in axes}) or [*range(rank)]
    if any(axis in build.program.open_axes(x) for axis in reduced):
        raise CannotLower("it reduces the batch")
    build.values.set(node, _reduce(build, REDUCTIONS[node.target], x, reduced, bool(keep), node.name))


@lowers(*ALONG)
def lower_along(build: Builder, node: Node) -> None:
    """Write the values and, where they are read, their places."""
    x, axis, keep = fill(node, None, None, False)
    axis = int(axis) % len(build.program.shape(x))
    code = ALONG[node.target]
    values = _reduce(build, code, x, [axis], bool(keep), node.name)
    taken = {user.args[1] for user in node.users}
    places = _places(build, PLACES[code], x, axis, bool(keep), f"{node.name}/places") if 1 in taken else values
    build.values.set_parts(node, (values, places))


@lowers(aten.argmax.default, aten.argmin.default, any_type=True)
def lower_places(build: Builder, node: Node) -> None:
    """Write ARG_MAX or ARG_MIN along one axis."""
    x, axis, keep = fill(node, None, None, False)
    if axis is None:
        raise CannotLower("it counts places in the flattened tensor; name an axis")
    code = "ARG_MAX" if node.target is aten.argmax.default else "ARG_MIN"
    axis = int(axis) % len(build.program.shape(x))
    build.values.set(node, _places(build, code, x, axis, bool(keep), node.name))


def _reduce(build: Builder, code: str, x: Node, axes: Sequence[int], keep: bool, name: str) -> Value:
    value = build.values.read(x) if code in AS_THEY_ARE else build.values.read_float(x)
    places = build.writer.indices(sorted(value.order.index(axis) for axis in axes), "axes")
    like, order = _without(build, value, axes, name) if not keep else (_of_one(build, value, axes, name), value.order)
    return build.writer.operator(code, [value, places], like, order, keepDims=keep)


def _places(build: Builder, code: str, x: Node, axis: int, keep: bool, name: str) -> Value:
    value = build.values.read_float(x)
    like, order = _without(build, value, [axis], name)
    number = build.writer.indices([value.order.index(axis)], "axis")
    found = build.writer.operator(code, [value, number], replace(like, dtype=LONG), order, outputType=INT64)
    if not keep:
        return found
    kept = _of_one(build, value, [axis], name)
    return Value(build.writer.reshape(found, kept.shape, kept.open_batch, name).tensor, value.order)


def _of_one(build: Builder, value: Value, axes: Sequence[int], name: str) -> Tensor:
    """Describe a value whose axes have been reduced to one."""
    source = build.writer.tensor(value)
    shape = tuple(1 if value.order[place] in axes else size for place, size in enumerate(source.shape))
    return replace(source, name=name, shape=shape)


def _without(build: Builder, value: Value, axes: Sequence[int], name: str) -> tuple[Tensor, Order]:
    """Describe a value whose axes have been reduced away, and the order of the others."""
    source = build.writer.tensor(value)
    kept = [place for place, axis in enumerate(value.order) if axis not in axes]
    left = sorted(value.order[place] for place in kept)
    open_batch = tuple(kept.index(place) for place in source.open_batch if place in kept)
    shape = tuple(source.shape[place] for place in kept)
    order = tuple(left.index(value.order[place]) for place in kept)
    return replace(source, name=name, shape=shape, open_batch=open_batch), order
