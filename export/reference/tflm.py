"""This table holds the rules of TFLite Micro's reference kernels, which round twice where XNNPACK rounds once.

    multiply(x, M)             M = f / 2^31 * 2^s, f an integer from 2^30 on: h = round(x * 2^max(s, 0) * f / 2^31),
                               then round(h / 2^max(-s, 0)), both half away from zero (gemmlowp's fixed point)
    CONV_2D, FULLY_CONNECTED,  clip(multiply(sum + bias, f64(s_in) * f64(s_w) / f64(s_out)) + zero point)
    DEPTHWISE_CONV_2D
    ADD                        t = 2 max(s_a, s_b), a and b centered,
                               x = multiply(a * 2^20, s_a / t) + multiply(b * 2^20, s_b / t),
                               clip(multiply(x, t / (2^20 s_out)) + zero point)
    MEAN                       clip(multiply(sum, M) + zero point), f and s of M those of s_in / s_out with
                               n = min(floor(log2(count)), 32, 31 + s): f = floor(f * 2^n / count), s = s - n

CMSIS-NN's kernels for Cortex-M follow the first two (measured, docs/devices.md). Source: gemmlowp's fixedpoint.h, and
quantization_util.cc and reference/integer_ops of tensorflow/lite/kernels/internal; held to the interpreter of the
package tflite-micro.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from export.program.arguments import pair
from export.reference.machine import Codes, Pending
from export.reference.weighted import WEIGHTED, exact_sums
from export.reference.xnnpack import XNNPACK

aten = torch.ops.aten

LEFT_SHIFT = 20
"""Bits that the operands of an addition are moved up by, before they are scaled."""


def fixed_point(multiplier: Tensor) -> tuple[Tensor, Tensor]:
    """Write float64 multipliers as f / 2^31 * 2^s: f and s, int64."""
    mantissa, exponent = torch.frexp(multiplier.double())
    fixed = (mantissa * 2.0**31 + 0.5).floor().long()
    over = fixed == 2**31
    return torch.where(over, fixed // 2, fixed), exponent.long() + over.long()


def multiply(values: Tensor, multiplier: Tensor) -> Tensor:
    """Multiply int64 values by float64 multipliers as gemmlowp does, which rounds twice."""
    return multiply_fixed(values, *fixed_point(multiplier))


def multiply_fixed(values: Tensor, fixed: Tensor, shift: Tensor) -> Tensor:
    """Multiply int64 values by f / 2^31 * 2^s."""
    product = (values << shift.clamp(min=0)) * fixed
    nudged = product + torch.where(product >= 0, 2**30, 1 - 2**30)
    high = nudged.sign() * (nudged.abs() >> 31)  # C++ divides towards zero
    right = (-shift).clamp(min=0)
    mask = (torch.ones_like(right) << right) - 1
    threshold = (mask >> 1) + (high < 0).long()
    return (high >> right) + ((high & mask) > threshold).long()


def _weighted(node: Node, x: Codes, weight: Codes, bias: Codes | None = None, *rest: Any) -> Pending:
    sums, scale = exact_sums(node, x, weight, bias, *rest)

    def steps(sy: Tensor, zy: float) -> Tensor:
        return multiply(sums.long(), x.scale.double() * scale.double() / sy.double()).float()

    return Pending(steps, lambda: sums.float() * (x.scale * scale))


def _add(node: Node, a: Codes, b: Codes) -> Pending:
    def steps(sy: Tensor, zy: float) -> Tensor:
        twice = 2 * torch.maximum(a.scale, b.scale).double()
        parts = [multiply(part.centered.long() << LEFT_SHIFT, part.scale.double() / twice) for part in (a, b)]
        return multiply(parts[0] + parts[1], twice / (2.0**LEFT_SHIFT * sy.double())).float()

    return Pending(steps, lambda: a.real() + b.real())


def _mean(node: Node, x: Codes, *arguments: Any) -> Pending:
    """Compute a pool whose window is the whole image; any other is XNNPACK's."""
    height, width = x.centered.shape[-2:]
    window = arguments[0]
    whole = (
        list(window) == [1, 1] if node.target is aten.adaptive_avg_pool2d.default else pair(window) == (height, width)
    )
    if not whole:
        return XNNPACK.kernels[node.target](node, x, *arguments)
    count = height * width
    sums = x.centered.sum((2, 3), keepdim=True, dtype=torch.float64).long()

    def steps(sy: Tensor, zy: float) -> Tensor:
        fixed, shift = fixed_point(x.scale.double() / sy.double())
        up = torch.tensor(min(count.bit_length() - 1, 32, 31 + int(shift)))
        return multiply_fixed(sums, (fixed << up) // count, shift - up).float()

    return Pending(steps, lambda: sums.float() * x.scale / count)


TFLM = replace(
    XNNPACK,
    kernels={
        **XNNPACK.kernels,
        **dict.fromkeys(WEIGHTED, _weighted),
        aten.add.Tensor: _add,
        aten.adaptive_avg_pool2d.default: _mean,
        aten.avg_pool2d.default: _mean,
    },
)
"""The rules of TFLite Micro's kernels; what is not named above follows XNNPACK's."""
