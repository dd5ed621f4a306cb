"""Transposed convolutions read images whose channels come last; a sequence is a one-row image.

    conv_transpose2d(x, w IOHW)      ->  TRANSPOSE_CONV(x, w OHWI) of all that the kernel reaches, then a slice
    with groups                      ->  one for each group of channels, concatenated; floats alone

Float: PyTorch's sums in another order, from the weight's codes. On codes: the rule of convolutions in XNNPACK.

The operator takes the shape of its result as numbers. On floats the batch among them is computed from the input's. On
codes they are a constant, as XNNPACK wants it, which takes the batch from the input whatever they say (measured);
LiteRT's own kernel refuses another batch than theirs, which is 1 in a file with an open one.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.fx import Node

from export.program.arguments import Pair, fill, pair
from export.program.names import codes_name, scope_name
from export.tflite.builder.builder import Builder
from export.tflite.builder.destination import Destination, find_destination
from export.tflite.builder.refusal import CannotLower
from export.tflite.builder.value import Value
from export.tflite.builder.weight_writer import is_plain
from export.tflite.file.graph import NO_ACTIVATION, VALID, Tensor
from export.tflite.operators.convolution import read_image
from export.tflite.operators.layer_operands import layer_operands
from export.tflite.operators.registry import lowers
from export.tflite.weights.layout import CHANNELS_LAST, StoredLayout, identity

aten = torch.ops.aten

INTEGERS = np.dtype(np.int32)
WITH_ACTIVATION = 4
"""The version of the operator that applies a clamp."""


@lowers(aten.conv_transpose2d.input, aten.conv_transpose1d.default)
def lower_transposed(build: Builder, node: Node) -> None:
    """Write TRANSPOSE_CONV without padding, and cut off what PyTorch's padding does."""
    x, weight, bias, stride, padding, extra, groups, dilation = fill(node, None, None, None, 1, 0, 0, 1, 1)
    rank = len(build.program.shape(node))
    if rank not in CHANNELS_LAST:
        raise CannotLower("it has no batch")
    if any(step != 1 for step in _image(dilation, rank, 1)):
        raise CannotLower("its kernel is dilated")
    step, pad, more = _image(stride, rank, 1), _image(padding, rank, 0), _image(extra, rank, 0)
    inputs, width, *kernel = build.program.shape(weight)
    kernel = [1] * (4 - rank) + kernel
    layout = StoredLayout((inputs, width, *kernel), (1, 2, 3, 0), (width, *kernel, inputs))
    on_codes = groups == 1 and build.values.are_codes(x) and is_plain(weight)
    target = find_destination(build.program, node, integer=True) if on_codes else Destination(node)
    if target.quantization is None:
        target = Destination(node)
    integer = target.quantization is not None
    image = read_image(build, x, integer=integer)
    sizes = build.writer.tensor(image).shape[1:3]
    reached = tuple(
        (size - 1) * s + k + max(0, added - cut)  # beyond the kernel, where only the bias is
        for size, s, k, added, cut in zip(sizes, step, kernel, more, pad, strict=True)
    )
    wanted = (1,) * (4 - rank) + build.program.shape(node)[2:]
    name = codes_name(scope_name(target.node)) if integer else node.name
    cropped = name if rank == 4 else f"{node.name}/row"
    made = cropped if reached == wanted else f"{node.name}/reached"
    if integer:
        operands = layer_operands(build, node, "TRANSPOSE_CONV", image, weight, bias, layout, target)
        result = _convolve(build, operands.tensors, (*reached, width), step, target, made)
    else:
        result = _in_floats(build, image, weight, bias, layout, (*reached, width * groups), groups, step, made)
    result = _crop(build, result, pad, wanted, cropped)
    if rank == 3:
        like = build.program.like(node, CHANNELS_LAST[3])
        result = build.writer.reshape(result, like.shape, like.open_batch, name)
    build.values.set(target.node, Value(result.tensor, CHANNELS_LAST[rank], target.quantization))


def _convolve(
    build: Builder,
    operands: Sequence[Value | int],
    sizes: tuple[int, ...],
    step: Pair,
    target: Destination,
    name: str,
) -> Value:
    """Write TRANSPOSE_CONV of an image, a weight and a bias, which gives height, width and channels of `sizes`."""
    image, weight, bias = operands
    assert isinstance(image, Value)
    source = build.writer.tensor(image)
    batch = source.shape[0]
    if target.quantization is None:
        shape = _result_shape(build, image, sizes, name)
        like = Tensor(name, (batch, *sizes), np.dtype(np.float32), None, None, source.open_batch)
    else:
        shape = build.writer.indices((batch, *sizes), "shape")
        like = Tensor(name, (batch, *sizes), source.dtype, None, target.quantization, source.open_batch)
    return build.writer.operator(
        "TRANSPOSE_CONV",
        [shape, weight, image, bias],
        like,
        CHANNELS_LAST[4],
        version=None if target.activation == NO_ACTIVATION else WITH_ACTIVATION,
        padding=VALID,
        strideH=step[0],
        strideW=step[1],
        fusedActivationFunction=target.activation,
    )


def _in_floats(
    build: Builder,
    image: Value,
    weight: Node,
    bias: Node | None,
    layout: StoredLayout,
    sizes: tuple[int, ...],
    groups: int,
    step: Pair,
    name: str,
) -> Value:
    """Compute floats, one group of channels after the other."""
    stored = build.weights.add(weight, layout)
    offsets = np.zeros(sizes[-1], np.float32) if bias is None else build.program.constant(bias)
    if offsets is None:
        raise CannotLower("its bias is computed")
    inputs, width = layout.view[0] // groups, sizes[-1] // groups
    parts = []
    for group in range(groups):
        part = image if groups == 1 else _channels(build, image, group, inputs, f"{name}/input")
        kernels = stored if groups == 1 else _columns(build, stored, group, inputs)
        numbers = build.writer.number(np.ascontiguousarray(offsets[group * width : (group + 1) * width]), "bias")
        label = name if groups == 1 else f"{name}/group"
        destination = Destination(weight)  # floats, without a clamp
        parts.append(_convolve(build, (part, kernels, numbers), (*sizes[:-1], width), step, destination, label))
    if groups == 1:
        return parts[0]
    like = dataclasses.replace(build.writer.tensor(parts[0]), name=name)
    like = dataclasses.replace(like, shape=(like.shape[0], *sizes))
    return build.writer.operator("CONCATENATION", parts, like, CHANNELS_LAST[4], axis=3)


def _image(value: Any, rank: int, neutral: int) -> Pair:
    """Give an argument for height and width; a sequence has one row."""
    return pair(value) if rank == 4 else (neutral, pair(value)[1])


def _result_shape(build: Builder, image: Value, sizes: tuple[int, ...], name: str) -> Value | int:
    """Write the shape of the result: the batch of the image, then sizes."""
    writer = build.writer
    if not writer.tensor(image).open_batch:
        return writer.indices((writer.tensor(image).shape[0], *sizes), "shape")
    shape = writer.operator("SHAPE", [image], Tensor(f"{name}/shape", (4,), INTEGERS), identity(1), outType=INT32)
    begin, end, step = (writer.indices([number], label) for number, label in ((0, "begin"), (1, "end"), (1, "step")))
    batch = writer.operator("STRIDED_SLICE", [shape, begin, end, step], Tensor(f"{name}/batch", (1,), INTEGERS), (0,))
    rest = writer.indices(sizes, "sizes")
    return writer.operator("CONCATENATION", [batch, rest], Tensor(f"{name}/sizes", (4,), INTEGERS), (0,), axis=0)


INT32 = 2
"""The schema's number of the type."""


def _channels(build: Builder, image: Value, group: int, width: int, name: str) -> Value:
    source = build.writer.tensor(image)
    like = dataclasses.replace(source, name=name, shape=(*source.shape[:3], width))
    return _slice(build, image, like, (0, 0, 0, group * width), (0, 0, 0, (group + 1) * width), 0b0111)


def _columns(build: Builder, stored: int, group: int, width: int) -> Value:
    source = build.writer.tensor(stored)
    like = dataclasses.replace(source, name=f"{source.name}/group", shape=(*source.shape[:3], width), data=None)
    value = Value(stored, identity(4))
    return _slice(build, value, like, (0, 0, 0, group * width), (0, 0, 0, (group + 1) * width), 0b0111)


def _crop(build: Builder, image: Value, pad: Pair, wanted: tuple[int, ...], name: str) -> Value:
    source = build.writer.tensor(image)
    if source.shape[1:3] == wanted:
        return image
    like = dataclasses.replace(source, name=name, shape=(source.shape[0], *wanted, source.shape[3]))
    end = (0, pad[0] + wanted[0], pad[1] + wanted[1], 0)
    return _slice(build, image, like, (0, *pad, 0), end, 0b1001)


def _slice(
    build: Builder, value: Value, like: Tensor, begin: tuple[int, ...], end: tuple[int, ...], everything: int
) -> Value:
    numbers = [build.writer.indices(found, label) for found, label in ((begin, "begin"), (end, "end"))]
    operands: list[Value | int] = [value, *numbers, build.writer.indices([1] * len(begin), "step")]
    return build.writer.operator("STRIDED_SLICE", operands, like, value.order, beginMask=everything, endMask=everything)
