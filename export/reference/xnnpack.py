"""The integer reference by the rules of XNNPACK, which computes LiteRT's int8 operators (measured; tests hold each).

    CONV_2D, FULLY_CONNECTED   clip(rint(f32(sum + bias) * f32(f32(s_in * s_w) / s_out)) + zero point), as onnxruntime
    MUL                        clip(rint(f32(a * b) * f32(f32(s_a * s_b) / s_out)) + zero point)
    MEAN                       clip(rint(f32(sum) * f32(f32(s_in / s_out) / count)) + zero point)
    ADD                        clip(floor((a * m_a + b * m_b) / 2^shift + 1/2) + zero point), a and b centered,
                               m = rint(f32(s / s_out) * 2^shift), shift = 20 - exponent of the larger f32(s / s_out)
    QUANTIZE of codes          m = rint(256 * s_in / s_out); clip(floor((x * m) / 256 + 1/2) + zero point)

A clamp that the operator applies itself clips codes. Everything else is computed in float32 between codes.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node
from torch.fx.node import map_arg

from codeq.activations.rules import INTEGER
from codeq.graph.operators import CLAMPS
from export.program.program import ReferenceProgram
from export.reference.machine import KERNELS, Codes, IntegerReference, Pending, move_codes
from export.tflite.build import FUSED
from export.tflite.operators.window import Pair, pair

aten = torch.ops.aten

MULTIPLIER_BITS = 20
"""Of the larger multiplier of an addition."""
REQUANTIZE_BITS = 8
"""Of the fraction with which codes go to another grid."""


class LiteRtReference(IntegerReference):
    """Computes a program with quantized activations as LiteRT does."""

    def __init__(self, program: ReferenceProgram) -> None:
        super().__init__(program)
        weighted = {target: KERNELS[target] for target, rule in INTEGER.items() if rule.has_weight}
        self.kernels = {
            **weighted,
            aten.add.Tensor: _add,
            aten.mul.Tensor: _mul,
            aten.adaptive_avg_pool2d.default: _mean,
            aten.avg_pool2d.default: _mean,
        }

    def compute_node(self, n: Node) -> Any:
        if n.target in CLAMPS and CLAMPS[n.target](n) in FUSED:
            (x,) = map_arg(n.args[:1], lambda operand: self.env[operand])
            if isinstance(x, Pending):
                return _clamped(x, *CLAMPS[n.target](n))
        if n.target is torch.ops.codeq.space_to_depth.default:
            return move_codes(n, map_arg(n.args, lambda operand: self.env[operand]))
        if n.target is aten.cat.default:
            arguments: Any = map_arg(n.args, lambda operand: self.env[operand])
            parts, *axis = arguments
            if all(isinstance(part, Codes) for part in parts) and not _share_grid(parts):
                return _concatenate(n, parts, *axis)
        return super().compute_node(n)


def _clamped(x: Pending, low: float, high: float) -> Pending:
    """Rounding is monotonic: the clamp of a value has the code that is the clamp of its code."""

    def steps(sy: Tensor, zy: float) -> Tensor:
        offset = zy if x.zero_inside else 0.0
        return x.steps(sy, zy).clamp(low / float(sy) + offset, high / float(sy) + offset)

    return Pending(steps, lambda: x.real().clamp(low, high), zero_inside=x.zero_inside)


def _add(node: Node, a: Codes, b: Codes) -> Pending:
    def steps(sy: Tensor, zy: float) -> Tensor:
        ratios = [float(a.scale / sy), float(b.scale / sy)]
        shift = MULTIPLIER_BITS - (math.frexp(max(ratios))[1] - 1)
        first, second = (float(torch.tensor(math.ldexp(ratio, shift)).round()) for ratio in ratios)
        sums = a.centered.double() * first + b.centered.double() * second
        return (sums / 2.0**shift + 0.5).floor().float()

    return Pending(steps, lambda: a.real() + b.real())


def _mul(node: Node, a: Codes, b: Codes) -> Pending:
    product, scale = a.centered * b.centered, a.scale * b.scale
    return Pending(lambda sy, zy: product * (scale / sy), lambda: product * scale)


def _mean(node: Node, x: Codes, *arguments: Any) -> Pending:
    """A pool whose window is the whole image; any other is computed in float."""
    height, width = x.centered.shape[-2:]
    if not _is_whole(node, (height, width), *arguments):
        target: Any = node.target
        return Pending(lambda sy, zy: target(x.real(), *arguments) / sy, lambda: target(x.real(), *arguments))
    sums = x.centered.sum((2, 3), keepdim=True)
    return Pending(lambda sy, zy: sums * (x.scale / sy / (height * width)), lambda: sums * x.scale / (height * width))


def _is_whole(node: Node, sizes: Pair, window: Any, stride: Any = (), padding: Any = 0, *rest: Any) -> bool:
    if node.target is aten.adaptive_avg_pool2d.default:
        return list(window) == [1, 1]
    return pair(window) == sizes and pair(padding) == (0, 0)


def _share_grid(parts: list[Codes]) -> bool:
    first = parts[0]
    return all(torch.equal(part.scale, first.scale) and part.zero_point == first.zero_point for part in parts)


def _concatenate(node: Node, parts: list[Codes], axis: int = 0) -> Pending:
    def part_steps(part: Codes, sy: Tensor, zy: float) -> Tensor:
        if bool(part.scale == sy) and part.zero_point == zy:
            return part.centered
        multiplier = float((part.scale / sy * 2.0**REQUANTIZE_BITS).round())
        return (part.centered * multiplier / 2.0**REQUANTIZE_BITS + 0.5).floor()

    return Pending(
        lambda sy, zy: torch.cat([part_steps(part, sy, zy) for part in parts], axis),
        lambda: torch.cat([part.real() for part in parts], axis),
    )
