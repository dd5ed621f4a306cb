"""Pools take maxima or averages over windows or over whole images.

Maxima are exact, on floats and on codes. Averages are float sums in another order; a mean over a whole image has an
integer kernel in XNNPACK, whose rule is in export/reference/xnnpack.py.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.fx import Node

from codeq.graph.operators import CLAMPS
from export.program.arguments import Pair, fill, pair
from export.program.codes import UINT8_TO_INT8
from export.tflite.builder.builder import Builder
from export.tflite.builder.destination import Destination, find_destination
from export.tflite.builder.refusal import CannotLower
from export.tflite.builder.value import Value
from export.tflite.file.graph import NO_ACTIVATION, SAME, VALID, Tensor
from export.tflite.operators.convolution import pad_image, read_image
from export.tflite.operators.gather import gather
from export.tflite.operators.registry import lowers
from export.tflite.operators.window import Padding, plan_padding
from export.tflite.weights.layout import CHANNELS_LAST

aten = torch.ops.aten

LOWEST = {np.dtype(np.float32): np.finfo(np.float32).min, np.dtype(np.int8): UINT8_TO_INT8}


@lowers(aten.max_pool2d.default)
def lower_max_pool(build: Builder, node: Node) -> None:
    """Write MAX_POOL_2D, padded with zeros where no value is below, else with the lowest number."""
    x, kernel, stride, padding, dilation, ceil = fill(node, None, None, [], 0, 1, False)
    assert isinstance(x, Node)
    width, step, pad, apart = pair(kernel), pair(stride or kernel), pair(padding), pair(dilation)
    sizes, outputs = build.program.shape(x)[2:], build.program.shape(node)[2:]
    image = read_image(build, x, integer=True)
    beyond = step if ceil else (0, 0)  # the last windows reach over the padding
    zeros = ((pad[0], pad[0] + beyond[0]), (pad[1], pad[1] + beyond[1]))
    plan = plan_padding(sizes, width, step, apart, zeros, outputs)
    if apart != (1, 1) and plan.mode == SAME:  # what is spread out has no padding of its own
        beyond = tuple(
            max(0, (count - 1) * s + (k - 1) * a + 1 - size - before)
            for count, s, k, a, size, before in zip(outputs, step, width, apart, sizes, pad, strict=True)
        )
        plan = Padding(VALID, ((pad[0], beyond[0]), (pad[1], beyond[1])))
    if plan.needs_pad and not is_non_negative(build, x, image):
        source = build.writer.tensor(image)
        n, height, long, channels = source.shape
        shape = (n, height + sum(plan.zeros[0]), long + sum(plan.zeros[1]), channels)
        like = Tensor(f"{node.name}/padded", shape, source.dtype, None, image.quantization, source.open_batch)
        amounts = build.writer.indices([(0, 0), *plan.zeros, (0, 0)], "paddings")
        lowest = np.array(LOWEST[source.dtype], source.dtype)
        if image.quantization is None:
            number = build.writer.number(lowest, "lowest")
        else:
            number = build.writer.add_tensor(
                Tensor(f"{node.name}/lowest", (), source.dtype, lowest, image.quantization)
            )
        image = build.writer.operator("PADV2", [image, amounts, number], like, image.order)
    else:
        image = pad_image(build, image, plan, f"{node.name}/padded")
    if apart != (1, 1):
        image, step = _spread_windows(build, node, image, width, step, apart), width
    _pool(build, node, "MAX_POOL_2D", image, width, step, plan.mode)


def _spread_windows(build: Builder, node: Node, image: Value, kernel: Pair, stride: Pair, dilation: Pair) -> Value:
    """Lay the windows of a dilated pool side by side, by the rows and columns that each of them reads."""
    outputs = build.program.shape(node)[2:]
    rows, columns = (
        (np.arange(count)[:, None] * step + np.arange(width) * apart).reshape(-1)
        for count, width, step, apart in zip(outputs, kernel, stride, dilation, strict=True)
    )
    return gather(build, image, {2: rows, 3: columns}, f"{node.name}/windows")


@lowers(aten.avg_pool2d.default)
def lower_average_pool(build: Builder, node: Node) -> None:
    """Write AVERAGE_POOL_2D, which does not count padding; zeros that count are padded first.

    Windows that divide by anything else are sums: of padded zeros, times a number for each place.
    """
    x, kernel, stride, padding, ceil, count, divisor = fill(node, None, None, [], 0, False, True, None)
    width, step, pad = pair(kernel), pair(stride or kernel), pair(padding)
    sizes, outputs = build.program.shape(x)[2:], build.program.shape(node)[2:]
    if divisor or (ceil and _floor_outputs(sizes, width, step, pad) != outputs):
        _pool_by_numbers(build, node, x, width, step, pad, count=bool(count), divisor=divisor)
        return
    if width == sizes and not any(pad):
        _mean_of_image(build, node, x)
        return
    image = read_image(build, x, integer=False)
    zeros = ((pad[0], pad[0]), (pad[1], pad[1]))
    none = ((0, 0), (0, 0))
    plan = plan_padding(sizes, width, step, (1, 1), zeros, outputs)
    if any(pad) and count:
        # All of it: zeros that no window would read change nothing.
        whole = [size + 2 * extra for size, extra in zip(sizes, pad, strict=True)]
        mode = plan_padding(whole, width, step, (1, 1), none, outputs).mode
        image = pad_image(build, image, Padding(mode, zeros), f"{node.name}/padded")
        plan = Padding(mode, none)
    elif plan.needs_pad:
        _pool_by_numbers(build, node, x, width, step, pad, count=False, divisor=None)
        return
    mode = plan.mode
    _pool(build, node, "AVERAGE_POOL_2D", image, width, step, mode)


def _pool_by_numbers(
    build: Builder, node: Node, x: Node, kernel: Pair, stride: Pair, padding: Pair, *, count: bool, divisor: Any
) -> None:
    """Write AVERAGE_POOL_2D of all zeros that windows read, and MUL by its divisor over PyTorch's, place by place."""
    sizes, outputs = build.program.shape(x)[2:], build.program.shape(node)[2:]
    zeros: list[Pair] = []
    counted = []
    for size, width, step, pad, wanted in zip(sizes, kernel, stride, padding, outputs, strict=True):
        begins = np.arange(wanted) * step - pad
        ends = np.minimum(begins + width, size + pad)
        zeros.append((pad, max(0, int(begins[-1]) + width - size)))
        counted.append(ends - begins if count else np.minimum(ends, size) - np.maximum(begins, 0))
    numbers = np.outer(*counted) if not divisor else np.full(outputs, int(divisor))
    factors = (kernel[0] * kernel[1] / numbers).astype(np.float32)[None, :, :, None]
    image = read_image(build, x, integer=False)
    padded = pad_image(build, image, Padding(VALID, (zeros[0], zeros[1])), f"{node.name}/padded")
    like = build.program.like(node, CHANNELS_LAST[4])
    options = {"strideH": stride[0], "strideW": stride[1], "filterHeight": kernel[0], "filterWidth": kernel[1]}
    means = build.writer.operator(
        "AVERAGE_POOL_2D", [padded], like, CHANNELS_LAST[4], label="means", padding=VALID, **options
    )
    build.values.result(
        node,
        "MUL",
        [means, build.writer.number(factors, "factors")],
        CHANNELS_LAST[4],
        fusedActivationFunction=NO_ACTIVATION,
    )


@lowers(aten.adaptive_avg_pool2d.default)
def lower_adaptive_average_pool(build: Builder, node: Node) -> None:
    """Write MEAN of whole images, AVERAGE_POOL_2D where windows are equal."""
    x = node.args[0]
    assert isinstance(x, Node)
    sizes, outputs = build.program.shape(x)[2:], build.program.shape(node)[2:]
    if any(size % output for size, output in zip(sizes, outputs, strict=True)):
        _pool_bands(build, node, x)
        return
    if outputs == (1, 1):
        _mean_of_image(build, node, x)
        return
    kernel = (sizes[0] // outputs[0], sizes[1] // outputs[1])
    _pool(build, node, "AVERAGE_POOL_2D", read_image(build, x, integer=False), kernel, kernel, 1)


@lowers(aten.adaptive_max_pool2d.default, aten.adaptive_max_pool1d.default)
def refuse_places(build: Builder, node: Node) -> None:
    """Refuse to give the places of maxima; the values alone are pools under another name."""
    raise CannotLower("its places are read; only its values have a lowering")


def _pool_bands(build: Builder, node: Node, x: Node) -> None:
    """Take means of windows that may differ in size: bands of rows first, then of columns. Output i reads from
    floor(i n / m) to ceil((i + 1) n / m), as PyTorch does; the mean of a band's means is the window's, as its rows are
    equally long.
    """
    image = read_image(build, x, integer=False)
    for place, count in enumerate(build.program.shape(node)[2:], 1):
        source = build.writer.tensor(image)
        size, bands = source.shape[place], []
        axes = build.writer.indices([place], "axes")
        for index in range(count):
            begin, end = index * size // count, -(-(index + 1) * size // count)
            begins, ends = [0] * 4, [0] * 4
            begins[place], ends[place] = begin, end
            shape = [*source.shape]
            shape[place] = end - begin
            numbers = [
                build.writer.indices(n, label) for n, label in ((begins, "begin"), (ends, "end"), ([1] * 4, "step"))
            ]
            others = 0b1111 & ~(1 << place)
            like = replace(source, name=f"{node.name}/band", shape=tuple(shape))
            band = build.writer.operator(
                "STRIDED_SLICE", [image, *numbers], like, image.order, beginMask=others, endMask=others
            )
            shape[place] = 1
            one = replace(like, shape=tuple(shape))
            bands.append(build.writer.operator("MEAN", [band, axes], one, image.order, keepDims=True))
        shape[place] = count
        joined = replace(source, name=f"{node.name}/bands", shape=tuple(shape))
        image = (
            bands[0] if count == 1 else build.writer.operator("CONCATENATION", bands, joined, image.order, axis=place)
        )
    build.values.set(node, image)


@lowers(aten.mean.dim)
def lower_mean(build: Builder, node: Node) -> None:
    """Write MEAN over any axes, on floats."""
    x, dimensions = node.args[0], node.args[1]
    keep = bool(node.args[2]) if len(node.args) > 2 else bool(node.kwargs.get("keepdim", False))
    assert isinstance(x, Node)
    rank = len(build.program.shape(x))
    reduced = sorted({int(axis) % rank for axis in dimensions})  # type: ignore[arg-type,union-attr]
    value = build.values.read_float(x)
    axes = build.writer.indices(sorted(value.order.index(axis) for axis in reduced), "axes")
    if keep:
        build.values.result(node, "MEAN", [value, axes], value.order, keepDims=True)
        return
    kept = [axis for axis in range(rank) if axis not in reduced]
    order = tuple(kept.index(axis) for axis in value.order if axis in kept)
    build.values.result(node, "MEAN", [value, axes], order, keepDims=False)


def is_non_negative(build: Builder, node: Node, value: Value) -> bool:
    """Tell whether a padding with zeros is below every value: behind a relu, or on a grid that starts at zero."""
    if value.quantization is not None:
        return value.quantization.zero_point == UINT8_TO_INT8
    return node.target in CLAMPS and CLAMPS[node.target](node)[0] >= 0


def _mean_of_image(build: Builder, node: Node, x: Node) -> None:
    """Write MEAN, on codes where no clamp follows that it would have to apply."""
    target = find_destination(build.program, node, integer=build.values.are_codes(x))
    integer = target.quantization is not None and not target.activation
    if integer:
        build.integer[build.program.name(node)] = "MEAN"
    image = read_image(build, x, integer=integer)
    axes = build.writer.indices((1, 2), "axes")
    build.values.result(
        node, "MEAN", [image, axes], CHANNELS_LAST[4], target=target if integer else Destination(node), keepDims=True
    )


def _pool(build: Builder, node: Node, code: str, image: Value, kernel: Pair, stride: Pair, mode: int) -> None:
    build.values.result(
        node,
        code,
        [image],
        CHANNELS_LAST[4],
        quantization=image.quantization,
        padding=mode,
        strideH=stride[0],
        strideW=stride[1],
        filterHeight=kernel[0],
        filterWidth=kernel[1],
    )


def _floor_outputs(sizes: tuple[int, ...], kernel: Pair, stride: Pair, padding: Pair) -> tuple[int, ...]:
    return tuple(
        (size + 2 * pad - width) // step + 1
        for size, width, step, pad in zip(sizes, kernel, stride, padding, strict=True)
    )
