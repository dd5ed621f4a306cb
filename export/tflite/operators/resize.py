"""Images are made larger or smaller by nearest neighbours, exact on floats and on codes, or bilinearly.

On codes a bilinear resize keeps the grid and has integer weights in XNNPACK: export/reference/xnnpack.py has the rule.

LiteRT derives positions from the two sizes alone, PyTorch from a scale factor where one is given: both are computed
here, and what would read other pixels is refused. Source: PyTorch's UpSample.h; TensorFlow Lite's resize kernels.
"""

from typing import Any

import numpy as np
import torch
from torch.fx import Node

from export.program.arguments import fill
from export.program.resize_places import resize_places
from export.tflite.builder.builder import Builder
from export.tflite.builder.destination import Destination, find_destination
from export.tflite.builder.refusal import CannotLower
from export.tflite.operators.convolution import read_image
from export.tflite.operators.registry import lowers
from export.tflite.weights.layout import CHANNELS_LAST

aten = torch.ops.aten

HALF_PIXELS = 3
"""The version of both operators that knows half pixels."""


@lowers(aten.upsample_nearest2d.vec, aten._upsample_nearest_exact2d.vec)
def lower_nearest(build: Builder, node: Node) -> None:
    """Write RESIZE_NEAREST_NEIGHBOR; codes keep their grid."""
    x, _, factors = fill(node, None, None, None)
    assert isinstance(x, Node)
    exact = node.target is aten._upsample_nearest_exact2d.vec
    _check_image(build, node)
    for axis in (2, 3):
        size, wanted = build.program.shape(x)[axis], build.program.shape(node)[axis]
        factor = None if factors is None else factors[axis - 2]
        ratio = np.float32(size) / np.float32(wanted)
        theirs = ratio if factor is None else np.float32(1.0 / factor)
        if not np.array_equal(_pixels(wanted, size, theirs, exact), _pixels(wanted, size, ratio, exact)):
            raise CannotLower(
                f"its scale factor {factor:.6g} is not {wanted} / {size}, and LiteRT would read other pixels; "
                "give it a size"
            )
    _resize(build, node, "RESIZE_NEAREST_NEIGHBOR", integer=True, half_pixels=exact, align=False)


@lowers(aten.upsample_bilinear2d.vec)
def lower_bilinear(build: Builder, node: Node) -> None:
    """Write RESIZE_BILINEAR."""
    x, _, align, factors = fill(node, None, None, False, None)
    assert isinstance(x, Node)
    _check_image(build, node)
    for axis in (2, 3):
        size, wanted = build.program.shape(x)[axis], build.program.shape(node)[axis]
        if not align and factors is not None and factors[axis - 2] * size != wanted:
            raise CannotLower(
                f"its scale factor {factors[axis - 2]:.6g} is not {wanted} / {size}, and LiteRT would weight pixels "
                "otherwise; give it a size"
            )
    target = _on_codes(build, node, x, align=bool(align))
    _resize(
        build,
        node,
        "RESIZE_BILINEAR",
        integer=target is not None,
        half_pixels=not align,
        align=bool(align),
        target=target,
    )


def _on_codes(build: Builder, node: Node, x: Node, *, align: bool) -> Destination | None:
    """Find where the codes of a bilinear resize go; None where it computes floats.

    Its quantizer must follow and have the operand's grid, as no kernel requantizes, and all processors must find the
    same weights.
    """
    target = find_destination(build.program, node, integer=build.values.are_codes(x))
    if target.quantization is None or target.activation:
        return None
    sizes, outputs = build.program.shape(x)[2:], build.program.shape(node)[2:]
    places = [resize_places(size, wanted, align=align) for size, wanted in zip(sizes, outputs, strict=True)]
    if None in places or not target.quantization.same_as(build.values.read(x).quantization):
        return None
    build.integer[build.program.name(node)] = "RESIZE_BILINEAR"
    return target


def _check_image(build: Builder, node: Node) -> None:
    if build.program.open_axes(node) not in ((0,), ()):
        raise CannotLower("its size depends on the batch, which a .tflite file cannot hold")


def _resize(
    build: Builder,
    node: Node,
    code: str,
    *,
    integer: bool,
    half_pixels: bool,
    align: bool,
    target: Destination | None = None,
) -> None:
    image = read_image(build, node.args[0], integer=integer)  # type: ignore[arg-type]
    size = build.writer.indices(build.program.shape(node)[2:], "size")
    version: dict[str, Any] = {"version": HALF_PIXELS} if half_pixels or align else {}
    build.values.result(
        node,
        code,
        [image, size],
        CHANNELS_LAST[4],
        target=target,
        quantization=image.quantization,
        alignCorners=align,
        halfPixelCenters=half_pixels,
        **version,
    )


def _pixels(wanted: int, size: int, scale: np.float32, exact: bool) -> np.ndarray:
    """Find which pixel each output is, along one axis, in float32 as both compute it."""
    places = np.arange(wanted, dtype=np.float32) + np.float32(0.5 if exact else 0)
    return np.minimum(np.floor(places * scale).astype(int), size - 1)
