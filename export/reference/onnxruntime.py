"""This table holds the rules of onnxruntime's CPU kernels on codes (measured; tests hold each against the kernel).

Every named product and quotient is rounded to float32, and rint rounds half to even:

    QLinearConv, QGemm, QLinearMatMul   clip(rint(f32(sum + bias) * f32(f32(sx * sw) / sy)) + zy)
    QGemm with float output             f32(sum + bias) * f32(sx * sw)
    QLinearAdd                          clip(...) of the processor's form: additions.py
    QLinearMul                          clip(rint(f32(f32(a * b * f32(f32(sa * sb) / sy)) + zy))), zero points taken off
    Q...AveragePool                     clip(rint(f32(sum) * f32(sx / f32(sy * n))) + zy); where the window is not the
                                        whole image the kernel sums floats, and is held to the bound of float kernels
    Resize, linear (of floats)          place = f32(f32(i + 1/2) / scale) - 1/2, or f32(i * (size - 1)) / (outputs - 1)
                                        with corners aligned, limited to 0 ... size - 1; the four pixels around it times
                                        the product of their weights, summed from top left to bottom right
"""

from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from codeq.activations.moves import is_move
from export.program.arguments import pair
from export.program.resize_places import resized
from export.reference.additions import add_fused
from export.reference.machine import Codes, Pending, Rules
from export.reference.weighted import WEIGHTED, scaled

aten = torch.ops.aten


def _product(node: Node, a: Codes, b: Codes) -> Pending:
    target: Any = node.target
    return scaled(target(a.centered.double(), b.centered.double()).float(), a.scale * b.scale)


def _mul(node: Node, a: Codes, b: Codes) -> Pending:
    product, scale = a.centered * b.centered, a.scale * b.scale
    return Pending(lambda sy, zy: product * (scale / sy) + zy, lambda: product * scale, zero_inside=True)


def _global_pool(node: Node, x: Codes, size: Any) -> Pending:
    height, width = x.centered.shape[-2] // size[0], x.centered.shape[-1] // size[1]
    return _average(aten.avg_pool2d(x.centered, [height, width], divisor_override=1), x, float(height * width))


def _mean(node: Node, x: Codes, axes: Any, keepdim: bool = False) -> Pending:
    """Compute what export/onnx/passes/pool_means.py makes a global pool of."""
    sums = x.centered.sum(axes, keepdim)
    return _average(sums, x, float(x.centered.shape[axes[0]]))


def _average_pool(node: Node, x: Codes, kernel: Any, stride: Any = (), padding: Any = 0, *rest: Any) -> Pending:
    count_padding = rest[1] if len(rest) > 1 else True
    options = (kernel, stride or kernel, padding, False, True)
    sums = aten.avg_pool2d(x.centered, *options, 1)
    if count_padding:
        height, width = pair(kernel)
        return _average(sums, x, float(height * width))
    return _average(sums, x, aten.avg_pool2d(torch.ones_like(x.centered), *options, 1))


def _average(sums: Tensor, x: Codes, count: float | Tensor) -> Pending:
    return Pending(lambda sy, zy: sums * (x.scale / (sy * count)), lambda: sums * x.scale / count)


def _concatenate(node: Node, parts: list[Codes], axis: int = 0) -> Pending:
    """Copy a part whose grid is the output's, and requantize the others by a table of 256 values."""

    def steps(sy: Tensor, zy: float) -> Tensor:
        return torch.cat(
            [part.centered if bool(part.scale == sy) and part.zero_point == zy else part.real() / sy for part in parts],
            axis,
        )

    return Pending(steps, lambda: torch.cat([part.real() for part in parts], axis))


def _unary(node: Node, x: Codes, *rest: Any) -> Pending:
    """Compute each value in float, as the kernel fills its table of 256."""
    target: Any = node.target
    return Pending(lambda sy, zy: target(x.real(), *rest) / sy, lambda: target(x.real(), *rest))


def _bilinear(node: Node, x: Codes, size: Any, align: bool, factors: Any = None) -> Pending:
    """Compute floats in the kernel's order: what lies midway between two codes must be rounded to the same one."""
    real = x.real()
    outputs = resized(real.shape[2:], size, factors)
    top, bottom, left, right = (
        part
        for axis, wanted in enumerate(outputs)
        for part in _between(real.shape[axis + 2], wanted, None if factors is None else factors[axis], align=align)
    )
    mixed: Any = None
    for row, row_weight in (top, bottom):
        for column, column_weight in (left, right):
            term = real[..., row, :][..., column] * (row_weight[:, None] * column_weight)
            mixed = term if mixed is None else mixed + term
    return Pending(lambda sy, zy: mixed / sy, lambda: mixed)


def _between(
    size: int, wanted: int, factor: float | None, *, align: bool
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Find the two pixels around each output along one axis, each with its weight."""
    steps = torch.arange(wanted, dtype=torch.float32)
    if align:
        places = steps * (size - 1) / max(wanted - 1, 1)
    else:
        scale = torch.tensor(float(factor)) if factor is not None else torch.tensor(float(wanted)) / size
        places = (steps + 0.5) / scale - 0.5
    places = places.clamp(0, size - 1)
    first = places.floor().long()
    second = (first + 1).clamp(max=size - 1)
    alone = first == second  # the last pixel, twice
    return (
        (first, (places - second).abs().where(~alone, torch.tensor(0.5))),
        (second, (places - first).abs().where(~alone, torch.tensor(0.5))),
    )


ONNXRUNTIME = Rules(
    kernels={
        **WEIGHTED,
        aten.matmul.default: _product,
        aten.bmm.default: _product,
        aten.mm.default: _product,
        aten.add.Tensor: add_fused,
        aten.mul.Tensor: _mul,
        aten.adaptive_avg_pool2d.default: _global_pool,
        aten.avg_pool2d.default: _average_pool,
        aten.mean.dim: _mean,
        aten.cat.default: _concatenate,
        aten.sigmoid.default: _unary,
        aten.leaky_relu.default: _unary,
        aten.upsample_bilinear2d.vec: _bilinear,
    },
    requantizes=lambda node, parts: not is_move(node),
)
"""The rules of onnxruntime's CPU kernels on x86 with FMA; processors.py has those of others."""
