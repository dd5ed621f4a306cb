"""A BatchNorm that was not folded, in eval mode, and the norms of an input by itself are computed on floats.

    batch_norm(x)  ->  MUL, ADD per channel, the factors computed in float64 and rounded once
    layer_norm(x)  ->  d = x - MEAN(x), d * RSQRT(MEAN(d * d) + eps), then MUL, ADD
    group_norm(x)  ->  the same over the pixels and channels of a group: (N, H * W, G, C / G), means over axes 1 and 3
    rms_norm(x)    ->  x * RSQRT(MEAN(x * x) + eps), then MUL

All are within float32's rounding of PyTorch's.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.fx import Node

from export.program.arguments import fill
from export.program.fold_batch_norm import channel_factors
from export.tflite.builder.builder import Builder
from export.tflite.builder.destination import find_destination
from export.tflite.builder.refusal import CannotLower
from export.tflite.builder.value import Value
from export.tflite.file.graph import Tensor
from export.tflite.operators.arithmetic import read_broadcast
from export.tflite.operators.registry import lowers
from export.tflite.weights.layout import Order

aten = torch.ops.aten


@lowers(aten.batch_norm.default)
def lower_batch_norm(build: Builder, node: Node) -> None:
    """Write MUL and ADD along the channels."""
    x, gamma, beta, mean, variance, training, _, eps = node.args[:8]
    values = [build.program.constant(argument) for argument in (gamma, beta, mean, variance)]
    if training or values[2] is None or values[3] is None:
        raise CannotLower("it normalises with the statistics of its batch")
    tensors = [None if value is None else torch.from_numpy(value) for value in values]
    assert tensors[3] is not None
    factors = channel_factors(tensors[0], tensors[3], float(eps)).numpy()  # type: ignore[arg-type]
    offsets = (0.0 if values[1] is None else values[1].astype(np.float64)) - values[2].astype(np.float64) * factors
    value = build.values.read_float(x)
    shape = [1] * len(value.order)
    shape[value.order.index(1)] = -1
    target = find_destination(build.program, node)
    like = build.program.like(node, value.order, name=f"{node.name}/scaled")
    scaled = build.writer.operator(
        "MUL", [value, build.writer.number(factors.astype(np.float32).reshape(shape))], like, value.order
    )
    build.values.result(
        node,
        "ADD",
        [scaled, build.writer.number(offsets.astype(np.float32).reshape(shape))],
        value.order,
        target=target,
        fusedActivationFunction=target.activation,
    )


@lowers(aten.layer_norm.default)
def lower_layer_norm(build: Builder, node: Node) -> None:
    """Write the primitives, over the last axes."""
    x, normalized, gamma, beta, eps = fill(node, None, None, None, None, 1e-5)
    value = build.values.read_float(x)
    like = build.program.like(node, value.order)
    result = _standardize(build, value, like, _last_places(value.order, len(normalized)), float(eps), centred=True)
    _scale(build, node, result, gamma, beta)


@lowers(aten.rms_norm.default)
def lower_rms_norm(build: Builder, node: Node) -> None:
    """Write the primitives, over the last axes."""
    x, normalized, gamma, eps = fill(node, None, None, None, None)
    value = build.values.read_float(x)
    like = build.program.like(node, value.order)
    eps = float(np.finfo(np.float32).eps) if eps is None else float(eps)
    result = _standardize(build, value, like, _last_places(value.order, len(normalized)), eps, centred=False)
    _scale(build, node, result, gamma, None)


@lowers(aten.group_norm.default)
def lower_group_norm(build: Builder, node: Node) -> None:
    """Write the primitives over the pixels and channels of each group."""
    x, groups, gamma, beta, eps = fill(node, None, None, None, None, 1e-5)
    _normalize_groups(build, node, x, int(groups), gamma, beta, float(eps))


@lowers(aten.instance_norm.default)
def lower_instance_norm(build: Builder, node: Node) -> None:
    """Write the primitives over the pixels of each channel."""
    x, gamma, beta, _, _, by_itself, _, eps = fill(node, None, None, None, None, None, True, 0.1, 1e-5)
    if not by_itself:
        raise CannotLower("it normalises with the statistics that training kept (track_running_stats)")
    _normalize_groups(build, node, x, build.program.shape(x)[1], gamma, beta, float(eps))


def _normalize_groups(build: Builder, node: Node, x: Any, groups: int, gamma: Any, beta: Any, eps: float) -> None:
    shape = build.program.shape(x)
    order = (0, *range(2, len(shape)), 1)  # channels last
    value = build.values.read_float(x, order)
    pixels, channels = math.prod(shape[2:]), shape[1]
    apart = build.writer.reshape(value, (1, pixels, groups, channels // groups), (0,), f"{node.name}/groups")
    like = build.writer.tensor(apart)
    result = _standardize(build, apart, like, [1, 3], eps, centred=True)
    stored = tuple(shape[axis] for axis in order)
    joined = build.writer.reshape(result, stored, (0,), f"{node.name}/joined")
    value = dataclasses.replace(joined, order=order)
    for code, operand in (("MUL", gamma), ("ADD", beta)):
        factors = build.program.constant(operand)
        if operand is not None and factors is None:
            raise CannotLower("its weight is computed")
        if factors is not None:
            number = build.writer.number(factors, build.program.weight_name(operand))
            value = build.writer.operator(code, [value, number], build.program.like(node, order), order)
    build.values.set(node, value)


def _last_places(order: Order, count: int) -> list[int]:
    """Give the places, as stored, of the last axes."""
    rank = len(order)
    return sorted(order.index(axis) for axis in range(rank - count, rank))


def _standardize(
    build: Builder, value: Value, like: Tensor, places: Sequence[int], eps: float, *, centred: bool
) -> Value:
    """Divide a value by its root mean square over some places of its stored shape, its mean taken off before."""
    axes = build.writer.indices(places, "axes")
    order, name = value.order, like.name
    full = dataclasses.replace(like, name=f"{name}/centred", data=None)
    sizes = tuple(1 if place in places else size for place, size in enumerate(full.shape))
    reduced = dataclasses.replace(full, name=f"{name}/reduced", shape=sizes)
    if centred:
        mean = build.writer.operator("MEAN", [value, axes], reduced, order, keepDims=True)
        value = build.writer.operator("SUB", [value, mean], full, order)
    squares = build.writer.operator("MUL", [value, value], full, order)
    variance = build.writer.operator("MEAN", [squares, axes], reduced, order, keepDims=True)
    shifted = build.writer.operator(
        "ADD", [variance, build.writer.number(np.array(eps, np.float32), "eps")], reduced, order
    )
    factors = build.writer.operator("RSQRT", [shifted], reduced, order)
    return build.writer.operator("MUL", [value, factors], full, order)


def _scale(build: Builder, node: Node, value: Value, gamma: Any, beta: Any) -> None:
    """Apply a factor and an offset that broadcast over a value, and set the node's value."""
    full = build.program.like(node, value.order, name=f"{node.name}/centred")
    for code, operand in (("MUL", gamma), ("ADD", beta)):
        if operand is not None:
            value = build.writer.operator(code, [value, read_broadcast(build, operand, value.order)], full, value.order)
    build.values.set(node, value)
