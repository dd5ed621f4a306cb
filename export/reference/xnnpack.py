"""This table holds the rules of XNNPACK, which computes LiteRT's int8 operators (measured; tests hold each).

    CONV_2D, TRANSPOSE_CONV,   clip(rint(f32(sum + bias) * f32(f32(s_in * s_w) / s_out)) + zero point), as onnxruntime
    FULLY_CONNECTED
    MUL                        clip(rint(f32(a * b) * f32(f32(s_a * s_b) / s_out)) + zero point)
    MEAN                       clip(rint(f32(f32(sum * m) + f32(zero point - f32(f32(count * zero point_in) * m))))),
                               m = f32(f32(s_in / s_out) * f32(1 / count)); the sum is of int8 codes, zero points in it
    ADD                        clip(floor((a * m_a + b * m_b) / 2^shift + 1/2) + zero point), a and b centered,
                               m = rint(f32(s / s_out) * 2^shift), shift = 20 - exponent of the larger f32(s / s_out)
    RESIZE_BILINEAR            floor(sum of codes times weights of 11 bits an axis / 2^22 + 1/2), on the operand's grid:
                               export/program/resize_places.py
    QUANTIZE of codes          m = rint(256 * s_in / s_out); clip(floor((x * m) / 256 + 1/2) + zero point)

A clamp that the operator applies itself clips codes. Everything else is computed in float32 between codes.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from export.program.arguments import Pair, pair
from export.program.codes import UINT8_TO_INT8
from export.program.resize_places import WEIGHT_BITS, resize_places, resized
from export.program.space_to_depth import SPACE_TO_DEPTH
from export.reference.machine import Codes, Pending, Rules, quantize, share_grid
from export.reference.weighted import WEIGHTED, weighted

aten = torch.ops.aten

MULTIPLIER_BITS = 20
"""The larger multiplier of an addition has one bit more."""
REQUANTIZE_BITS = 8
"""The multiplier that brings codes to another grid is a fraction of so many bits."""


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
    """Compute a pool on codes where its window is the whole image, any other in float."""
    height, width = x.centered.shape[-2:]
    if not _is_whole(node, (height, width), *arguments):
        target: Any = node.target
        return Pending(lambda sy, zy: target(x.real(), *arguments) / sy, lambda: target(x.real(), *arguments))
    count = torch.tensor(float(height * width))
    offset = count * (x.zero_point + UINT8_TO_INT8)
    centered = x.centered.sum((2, 3), keepdim=True, dtype=torch.float64)
    sums = (centered + offset).float()

    def steps(sy: Tensor, zy: float) -> Tensor:
        multiplier = x.scale / sy * (1 / count)
        codes = sums * multiplier + (zy + UINT8_TO_INT8 - offset * multiplier)
        return codes.double() - UINT8_TO_INT8  # float32 could round to a tie

    return Pending(steps, lambda: centered.float() * x.scale / count, zero_inside=True)


def _is_whole(node: Node, sizes: Pair, window: Any, stride: Any = (), padding: Any = 0, *rest: Any) -> bool:
    if node.target is aten.adaptive_avg_pool2d.default:
        return list(window) == [1, 1]
    return pair(window) == sizes and pair(padding) == (0, 0)


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


def _bilinear(node: Node, x: Codes, size: Any, align: bool, factors: Any = None) -> Pending:
    """Mix codes where their quantizer follows and processors agree on the weights; else floats."""
    target: Any = node.target

    def real() -> Tensor:
        mixed: Tensor = target(x.real(), size, align, factors)
        return mixed

    floats = Pending(lambda sy, zy: real() / sy, real)
    sizes = x.centered.shape[2:]
    wanted = resized(sizes, size, factors)
    rows, columns = (resize_places(*both, align=align) for both in zip(sizes, wanted, strict=True))
    if rows is None or columns is None or [user.target for user in node.users] != [quantize]:
        return floats
    whole = 2**WEIGHT_BITS
    codes, down = x.centered.int(), rows.weight[:, None]
    codes = codes[..., rows.first, :] * (whole - down) + codes[..., rows.second, :] * down
    codes = codes[..., columns.first] * (whole - columns.weight) + codes[..., columns.second] * columns.weight
    rounded = ((codes + whole**2 // 2) >> 2 * WEIGHT_BITS).float()

    def steps(sy: Tensor, zy: float) -> Tensor:
        return rounded if bool(sy == x.scale) and zy == x.zero_point else floats.steps(sy, zy)

    return Pending(steps, floats.real)


XNNPACK = Rules(
    kernels={
        **WEIGHTED,
        aten.conv_transpose1d.default: weighted,
        aten.conv_transpose2d.input: weighted,
        aten.upsample_bilinear2d.vec: _bilinear,
        aten.add.Tensor: _add,
        aten.mul.Tensor: _mul,
        aten.adaptive_avg_pool2d.default: _mean,
        aten.avg_pool2d.default: _mean,
        aten.cat.default: _concatenate,
    },
    requantizes=lambda node, parts: not share_grid(parts),
    clamps=frozenset({(0.0, float("inf")), (0.0, 6.0), (-1.0, 1.0)}),
    moves=frozenset({SPACE_TO_DEPTH}),
)
"""The rules of XNNPACK's kernels of LiteRT's operators."""
