"""A BatchNorm that was not folded, in eval mode, and LayerNorm are computed on floats.

    batch_norm(x)  ->  MUL, ADD per channel, the factors computed in float64 and rounded once
    layer_norm(x)  ->  d = x - MEAN(x), d * RSQRT(MEAN(d * d) + eps), then MUL, ADD

Both are within float32's rounding of PyTorch's.
"""

import dataclasses

import numpy as np
import torch
from torch.fx import Node

from export.program.arguments import fill
from export.program.fold_batch_norm import channel_factors
from export.tflite.builder.builder import Builder
from export.tflite.builder.destination import find_destination
from export.tflite.builder.refusal import CannotLower
from export.tflite.operators.arithmetic import read_broadcast
from export.tflite.operators.registry import lowers

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
    order = value.order
    rank, count = len(order), len(normalized)
    places = sorted(order.index(axis) for axis in range(rank - count, rank))
    axes = build.writer.indices(places, "axes")
    full = build.program.like(node, order, name=f"{node.name}/centred")
    sizes = tuple(1 if place in places else size for place, size in enumerate(full.shape))
    reduced = dataclasses.replace(full, name=f"{node.name}/reduced", shape=sizes)

    mean = build.writer.operator("MEAN", [value, axes], reduced, order, keepDims=True)
    centred = build.writer.operator("SUB", [value, mean], full, order)
    squares = build.writer.operator("MUL", [centred, centred], full, order)
    variance = build.writer.operator("MEAN", [squares, axes], reduced, order, keepDims=True)
    shifted = build.writer.operator(
        "ADD", [variance, build.writer.number(np.array(eps, np.float32), "eps")], reduced, order
    )
    factors = build.writer.operator("RSQRT", [shifted], reduced, order)
    result = build.writer.operator("MUL", [centred, factors], full, order)
    for code, operand in (("MUL", gamma), ("ADD", beta)):
        if operand is not None:
            result = build.writer.operator(code, [result, read_broadcast(build, operand, order)], full, order)
    build.values.set(node, result)
