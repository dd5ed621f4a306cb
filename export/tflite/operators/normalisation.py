"""BatchNorm that was not folded, in eval mode: one product and one sum per channel.

Factors are computed in float64 and rounded once; within float32's rounding of PyTorch's.
"""

import numpy as np
import torch
from torch.fx import Node

from export.fold_batch_norm import channel_factors
from export.tflite.build import Build
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
