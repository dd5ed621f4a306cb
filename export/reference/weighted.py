"""Convolutions and linear layers on codes are exact integer sums and one rounding, in every runtime here.

    clip(rint(f32(sum + bias) * f32(f32(sx * sw) / sy)) + zy)
    f32(sum + bias) * f32(sx * sw)                               where the output is float

Codes, biases and sums are integers. They are held in float32 where no sum can pass 2^24, else in float64: both are
exact.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from codeq.activations.rules import INTEGER
from export.reference.machine import Codes, Kernel, Pending

aten = torch.ops.aten

FLOAT32_EXACT = 2**24
"""Every integer up to here is a float32."""


def weighted(node: Node, x: Codes, weight: Codes, bias: Codes | None = None, *rest: Any) -> Pending:
    """Compute a convolution or a linear layer."""
    sums, scale = exact_sums(node, x, weight, bias, *rest)
    return scaled(sums.float(), x.scale * scale)


def exact_sums(node: Node, x: Codes, weight: Codes, bias: Codes | None = None, *rest: Any) -> tuple[Tensor, Tensor]:
    """Compute the integer sums of a convolution or a linear layer with their bias, and the weight's scale along them.

    Returns:
        Sums, float32 or float64, exact; and float32 scales of a shape that goes with them.
    """
    target: Any = node.target
    largest = 0.0 if bias is None else float(bias.centered.abs().max())
    wide = torch.float32 if weight.reach + largest < FLOAT32_EXACT else torch.float64
    sums = target(x.centered.to(wide), weight.centered.to(wide), None, *rest, **node.kwargs)
    channels = -1 if target is aten.linear.default else 1

    def along(values: Tensor) -> Tensor:
        shape = [1] * sums.ndim
        shape[channels] = -1
        return values.reshape(shape)

    if bias is not None:
        sums += along(bias.centered)
    return sums, along(weight.scale)


def scaled(sums: Tensor, scale: Tensor) -> Pending:
    """Round sums once: f32(sums) * f32(scale / sy), or f32(sums) * scale where the output is float."""
    return Pending(lambda sy, zy: sums * (scale / sy), lambda: sums * scale)


WEIGHTED: Mapping[Any, Kernel] = {
    target: weighted for target, rule in INTEGER.items() if rule.kind in ("convolution", "linear")
}
"""Every layer with weights that has an integer kernel in all runtimes."""
