"""BatchNorm that was not folded, in eval mode, and LayerNorm. On floats.

    batch_norm(x)  ->  MUL, ADD per channel, the factors computed in float64 and rounded once
    layer_norm(x)  ->  d = x - MEAN(x), d * RSQRT(MEAN(d * d) + eps), then MUL, ADD

Both are within float32's rounding of PyTorch's.
"""

import dataclasses

import numpy as np
import torch
from torch.fx import Node

from export.program.fold_batch_norm import channel_factors
from export.tflite.arguments import fill
from export.tflite.build import Build
from export.tflite.operators.arithmetic import read_broadcast
from export.tflite.registry import CannotLower, lowers

aten = torch.ops.aten


@lowers(aten.batch_norm.default)
def lower_batch_norm(build: Build, node: Node) -> None:
    """MUL and ADD along the channels."""
    x, gamma, beta, mean, variance, training, _, eps = node.args[:8]
    values = [build.constant(argument) for argument in (gamma, beta, mean, variance)]
    if training or values[2] is None or values[3] is None:
        raise CannotLower("it normalises with the statistics of its batch")
    tensors = [None if value is None else torch.from_numpy(value) for value in values]
    assert tensors[3] is not None
    factors = channel_factors(tensors[0], tensors[3], float(eps)).numpy()  # type: ignore[arg-type]
    offsets = (0.0 if values[1] is None else values[1].astype(np.float64)) - values[2].astype(np.float64) * factors
    value = build.read_float(x)
    shape = [1] * len(value.order)
    shape[value.order.index(1)] = -1
    target = build.target(node)
    like = build.like(node, value.order, name=f"{node.name}/scaled")
    scaled = build.operator("MUL", [value, build.number(factors.astype(np.float32).reshape(shape))], like, value.order)
    build.result(
        node,
        "ADD",
        [scaled, build.number(offsets.astype(np.float32).reshape(shape))],
        value.order,
        target=target,
        fusedActivationFunction=target.activation,
    )


@lowers(aten.layer_norm.default)
def lower_layer_norm(build: Build, node: Node) -> None:
    """From primitives, over the last axes."""
    x, normalized, gamma, beta, eps = fill(node, None, None, None, None, 1e-5)
    value = build.read_float(x)
    order = value.order
    rank, count = len(order), len(normalized)
    places = sorted(order.index(axis) for axis in range(rank - count, rank))
    axes = build.indices(places, "axes")
    full = build.like(node, order, name=f"{node.name}/centred")
    sizes = tuple(1 if place in places else size for place, size in enumerate(full.shape))
    reduced = dataclasses.replace(full, name=f"{node.name}/reduced", shape=sizes)

    mean = build.operator("MEAN", [value, axes], reduced, order, keepDims=True)
    centred = build.operator("SUB", [value, mean], full, order)
    squares = build.operator("MUL", [centred, centred], full, order)
    variance = build.operator("MEAN", [squares, axes], reduced, order, keepDims=True)
    shifted = build.operator("ADD", [variance, build.number(np.array(eps, np.float32), "eps")], reduced, order)
    factors = build.operator("RSQRT", [shifted], reduced, order)
    result = build.operator("MUL", [centred, factors], full, order)
    for code, operand in (("MUL", gamma), ("ADD", beta)):
        if operand is not None:
            result = build.operator(code, [result, read_broadcast(build, operand, order)], full, order)
    build.set(node, result)
