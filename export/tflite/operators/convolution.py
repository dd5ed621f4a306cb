"""Convolutions, dense, grouped and depthwise, read images whose channels come last; a sequence is a one-row image.

    conv2d(x, w OIHW)                       ->  CONV_2D(x, w OHWI)
    conv2d(x, w O1HW, groups=C)             ->  DEPTHWISE_CONV_2D(x, w 1HWO)

Float: PyTorch's sums in another order. On codes: clip(rint(f32(sum) * f32(s_in * s_w / s_out)) + zero point) in
XNNPACK, exact integers until that one rounding. A padding with zeros in front becomes the convolution's own.
"""

import dataclasses
from typing import Any

import torch
from torch.fx import Node

from export.program.arguments import Pair, fill, pair
from export.program.names import codes_name, scope_name
from export.tflite.builder.builder import Builder
from export.tflite.builder.destination import find_destination
from export.tflite.builder.refusal import CannotLower
from export.tflite.builder.value import JoinedAxes, Value
from export.tflite.builder.weight_writer import is_plain
from export.tflite.file.graph import Tensor
from export.tflite.operators.layer_operands import layer_operands
from export.tflite.operators.registry import lowers
from export.tflite.operators.window import Padding, plan_padding, zero_padding
from export.tflite.weights.layout import CHANNELS_LAST, StoredLayout

aten = torch.ops.aten

CONVOLUTIONS = (aten.conv2d.default, aten.conv2d.padding, aten.conv1d.default, aten.conv1d.padding)


@lowers(*CONVOLUTIONS)
def lower_convolution(build: Builder, node: Node) -> None:
    """Write CONV_2D or DEPTHWISE_CONV_2D, between reshapes where a sequence is convolved."""
    x, weight, bias, stride, padding, dilation, groups = _arguments(node)
    rank = len(build.program.shape(node))
    merged = merged_padding(node)
    source = x if merged is None else x.args[0]
    channels, outputs = build.program.shape(source)[1], build.program.shape(node)[1]
    kernel = _image(build.program.shape(weight)[2:], 1)
    depthwise = groups == channels and groups > 1
    if not depthwise and groups > 1 and outputs % groups:
        raise CannotLower(f"{groups} groups do not divide its {outputs} outputs")

    code = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
    integer = build.values.are_codes(source) and is_plain(weight)
    target = find_destination(build.program, node, integer=integer)
    integer = target.quantization is not None
    image = read_image(build, source, integer=integer)
    sizes, wanted = _image(build.program.shape(source)[2:], 1), _image(build.program.shape(node)[2:], 1)
    zeros = _zeros(padding, kernel, dilation, merged)
    plan = plan_padding(sizes, kernel, stride, dilation, zeros, wanted)
    image = pad_image(build, image, plan, f"{node.name}/padded")

    view = (outputs, build.program.shape(weight)[1], *kernel)
    if depthwise:
        layout = StoredLayout(view, (1, 2, 3, 0), (1, *kernel, outputs))
    else:
        joined = build.values.read(source).joined or JoinedAxes((view[1],), (0,))
        rows, columns = len(joined.sizes) + 1, len(joined.sizes) + 2
        layout = StoredLayout(
            (outputs, *joined.sizes, *kernel), (0, rows, columns, *joined.behind(1)), (outputs, *kernel, view[1])
        )
    operands = layer_operands(build, node, code, image, weight, bias, layout, target)
    options: dict[str, Any] = {
        "padding": plan.mode,
        "strideH": stride[0],
        "strideW": stride[1],
        "dilationHFactor": dilation[0],
        "dilationWFactor": dilation[1],
        "fusedActivationFunction": target.activation,
        "version": operands.version,
    }
    if depthwise:
        options["depthMultiplier"] = outputs // channels
    name = codes_name(scope_name(target.node)) if integer else target.node.name
    like = build.program.like(node, CHANNELS_LAST[rank], target.quantization, name=name)
    if rank == 4:
        build.values.set(target.node, build.writer.operator(code, operands.tensors, like, CHANNELS_LAST[4], **options))
        return
    row = dataclasses.replace(
        like,
        name=f"{name}/row",
        shape=(like.shape[0], 1, *like.shape[1:]),
        open_batch=tuple(axis + (axis > 0) for axis in like.open_batch),
    )
    made = build.writer.operator(code, operands.tensors, row, CHANNELS_LAST[4], **options)
    sequence = build.writer.reshape(made, like.shape, like.open_batch, name)
    build.values.set(target.node, Value(sequence.tensor, CHANNELS_LAST[3], sequence.quantization))


def merged_padding(node: Node) -> tuple[Pair, Pair] | None:
    """Find the zeros of a padding node that only this convolution reads; None where there is none to merge."""
    x = node.args[0]
    zeros = zero_padding(x)
    return zeros if zeros is not None and isinstance(x, Node) and len(x.users) == 1 else None


def pad_image(build: Builder, image: Value, plan: Padding, name: str) -> Value:
    """Pad an image, channels last, with the zeros that a window cannot pad itself; codes get zero points."""
    if not plan.needs_pad:
        return image
    source = build.writer.tensor(image)
    n, height, width, channels = source.shape
    shape = (n, height + sum(plan.zeros[0]), width + sum(plan.zeros[1]), channels)
    like = Tensor(name, shape, source.dtype, None, image.quantization, source.open_batch)
    amounts = build.writer.indices([(0, 0), *plan.zeros, (0, 0)], "paddings")
    return build.writer.operator("PAD", [image, amounts], like, image.order)


def read_image(build: Builder, node: Node, *, integer: bool) -> Value:
    """Read an operand of three or four dimensions as an image, channels last; `integer` takes codes where there are."""
    rank = len(build.program.shape(node))
    if rank not in CHANNELS_LAST:
        raise CannotLower(f"it reads {rank} dimensions, expected a batch of images or sequences")
    value = (
        build.values.read(node, CHANNELS_LAST[rank]) if integer else build.values.read_float(node, CHANNELS_LAST[rank])
    )
    if rank == 4:
        return value
    source = build.writer.tensor(value)
    open_batch = tuple(axis + (axis > 0) for axis in source.open_batch)
    shape = (source.shape[0], 1, *source.shape[1:])
    row = build.writer.reshape(value, shape, open_batch, f"{source.name}/row")
    return Value(row.tensor, CHANNELS_LAST[4], row.quantization)


def _arguments(node: Node) -> tuple[Any, Any, Any, Pair, Any, Pair, int]:
    x, weight, bias, stride, padding, dilation, groups = fill(node, None, None, None, 1, 0, 1, 1)
    rank = node.meta["val"].ndim
    if rank not in CHANNELS_LAST:
        raise CannotLower("it has no batch")
    padding = padding if isinstance(padding, str) else _spatial(padding, rank, 0)
    return x, weight, bias, _spatial(stride, rank, 1), padding, _spatial(dilation, rank, 1), int(groups)


def _spatial(value: Any, rank: int, neutral: int) -> Pair:
    """Give an argument for height and width; a sequence has one row."""
    return pair(value) if rank == 4 else (neutral, pair(value)[1])


def _image(sizes: tuple[int, ...], neutral: int) -> Pair:
    return (sizes[0], sizes[1]) if len(sizes) == 2 else (neutral, sizes[0])


def _zeros(padding: Any, kernel: Pair, dilation: Pair, merged: tuple[Pair, Pair] | None) -> tuple[Pair, Pair]:
    own: list[Pair] = []
    for axis in (0, 1):
        if isinstance(padding, str):
            total = (kernel[axis] - 1) * dilation[axis] if padding == "same" else 0
            own.append((total // 2, total - total // 2))
        else:
            own.append((padding[axis], padding[axis]))
    front = merged or ((0, 0), (0, 0))
    (top, bottom), (left, right) = ((own[axis][0] + front[axis][0], own[axis][1] + front[axis][1]) for axis in (0, 1))
    return (top, bottom), (left, right)
