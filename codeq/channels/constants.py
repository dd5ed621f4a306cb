"""This module finds channels that are the same for all inputs, and their value.

A channel of a convolution or linear layer whose weights are all zeros is its bias, and what follows makes other
constants of it: x -> batch norm -> ReLU -> pool. Zeros that only meet such zeros count as zeros, too. Of each tensor
one axis is followed, that of channels; NaN is a channel that is none.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.fx import Node

from codeq.channels.kept import KeptAxes
from codeq.graph.nodes import operator_name

aten = torch.ops.aten
CONVOLUTIONS = frozenset({aten.conv1d.default, aten.conv2d.default, aten.conv3d.default})
PADDED_BY_NAME = frozenset({aten.conv1d.padding, aten.conv2d.padding, aten.conv3d.padding})
TRANSPOSED = frozenset({aten.conv_transpose1d.default, aten.conv_transpose2d.input, aten.conv_transpose3d.input})
GROUPS = 6
"""The place of a convolution's groups among its arguments, of a transposed one's too."""
AVERAGES = frozenset({"avg_pool1d", "avg_pool2d", "avg_pool3d"})
SAME_VALUE = frozenset(
    {
        *("max_pool1d", "max_pool2d", "max_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "clone"),
        *("adaptive_avg_pool3d", "upsample_nearest1d", "upsample_nearest2d", "upsample_bilinear2d"),
        *("upsample_linear1d", "contiguous"),
    }
)
"""Operators that give a channel of one value that value."""
FOLLOWED = frozenset(
    {
        *("relu", "relu_", "relu6", "hardtanh", "gelu", "silu", "sigmoid", "tanh", "hardswish", "hardsigmoid", "elu"),
        *("leaky_relu", "clamp", "neg", "abs", "add", "sub", "mul", "div", "hardtanh_", "hardswish_", "silu_", "add_"),
        *("softplus", "mish", "selu", "clamp_min", "clamp_max", "square", "sqrt", "exp", "mul_"),
    }
)
"""Functions of one number or two, which give NaN for NaN."""


class Channels(NamedTuple):
    """Holds the constants of a tensor: the axis, and a value for each entry of it, NaN where it is none."""

    axis: int
    values: Tensor


def find_constants(kept: KeptAxes) -> dict[Node, Channels]:
    """Find the constant channels of every tensor of a network."""
    found: dict[Node, Channels] = {}
    for node in kept.exported.graph.nodes:
        if node.op != "call_function" or node not in kept.axes:
            continue
        channels = _of(kept, node, found)
        if channels is not None and bool((~channels.values.isnan()).any()):
            found[node] = channels
    return found


def layer_weight(kept: KeptAxes, node: Node) -> tuple[Tensor, Tensor | None] | None:
    """Give the weight of a convolution or linear layer, output channels first, and its bias; None if made in the graph.

    Of a transposed convolution in groups there is none.
    """
    weight = kept.tensors.get(node.args[1])  # type: ignore[arg-type]
    bias = node.args[2] if len(node.args) > 2 else None
    if weight is None or (isinstance(bias, Node) and bias not in kept.tensors):
        return None
    if node.target in TRANSPOSED:
        if groups_of(node) != 1:
            return None
        weight = weight.transpose(0, 1)
    return weight, kept.tensors[bias] if isinstance(bias, Node) else None


def groups_of(node: Node) -> int:
    """Give the groups of a convolution, 1 of a linear layer."""
    arguments: Any = node.args
    return int(arguments[GROUPS]) if len(arguments) > GROUPS else 1


def is_layer(node: Node) -> bool:
    """Tell whether a node is a convolution or a linear layer."""
    return node.target in CONVOLUTIONS | PADDED_BY_NAME | TRANSPOSED or node.target is aten.linear.default


def channels_of(kept: KeptAxes, node: Node) -> int:
    """Give the axis of channels of what a convolution or linear layer reads and makes."""
    return kept.rank(node) - 1 if node.target is aten.linear.default else 1


def parts_of(kept: KeptAxes, node: Node) -> tuple[list[Node], int]:
    """Give what a concatenation joins, and along which axis."""
    arguments: Any = node.args
    return list(arguments[0]), int(arguments[1] if len(arguments) > 1 else 0) % kept.rank(node)


def zeros_of(found: Mapping[Node, Channels], node: Any, axis: int, size: int) -> Tensor:
    """Tell which entries of an axis are zero for all inputs."""
    channels = found.get(node)
    if channels is None or channels.axis != axis:
        return torch.zeros(size, dtype=torch.bool)
    return channels.values == 0


def _of(kept: KeptAxes, node: Node, found: Mapping[Node, Channels]) -> Channels | None:
    if is_layer(node):
        return _of_layer(kept, node, found)
    name = operator_name(node)
    x = node.args[0] if node.args else None
    if node.target is aten.batch_norm.default:
        return _computed(kept, node, found) if isinstance(x, Node) and x in found and found[x].axis == 1 else None
    if name in FOLLOWED:
        return _computed(kept, node, found)
    if node.target is aten.cat.default:
        return _concatenated(kept, node, found)
    if not isinstance(x, Node) or x not in found:
        return None
    channels = found[x]
    if name in SAME_VALUE and channels.axis < 2:
        return channels
    if name in AVERAGES and channels.axis < 2:  # with padding a constant is an average with zeros
        return channels._replace(values=torch.where(channels.values == 0, channels.values, torch.nan))
    if name == "mean" and node.target is aten.mean.dim:
        rank = kept.rank(x)
        arguments: Any = node.args
        reduced = {int(axis) % rank for axis in arguments[1]}
        keeps = len(node.args) > 2 and bool(node.args[2])
        if channels.axis in reduced:
            return None
        return channels if keeps else channels._replace(axis=channels.axis - sum(a < channels.axis for a in reduced))
    if name == "flatten" and channels.axis == 1 and tuple(node.args[1:]) in ((1,), (1, -1)):
        size = node.meta["val"].shape[1]
        return Channels(1, channels.values.repeat_interleave(size // len(channels.values)))
    return None


def _of_layer(kept: KeptAxes, node: Node, found: Mapping[Node, Channels]) -> Channels | None:
    parameters = layer_weight(kept, node)
    if parameters is None:
        return None
    weight, bias = parameters
    axis = channels_of(kept, node)
    groups = groups_of(node)
    used = weight != 0
    if groups == 1:
        dead = zeros_of(found, node.args[0], axis, weight.shape[1])
        used = used & ~dead.reshape(1, -1, *[1] * (weight.ndim - 2))
    elif weight.shape[1] == 1:
        dead = zeros_of(found, node.args[0], axis, groups).repeat_interleave(weight.shape[0] // groups)
        used = used & ~dead.reshape(-1, *[1] * (weight.ndim - 1))
    alive = used.flatten(1).any(1)
    values = torch.zeros(len(alive)) if bias is None else bias.detach().float()
    return Channels(axis, torch.where(alive, torch.nan, values))


def _computed(kept: KeptAxes, node: Node, found: Mapping[Node, Channels]) -> Channels | None:
    """Compute a function of constants: unknown channels are NaN, and stay it."""
    operands = [operand for operand in node.all_input_nodes if operand in kept.axes]
    varying = [operand for operand in operands if operand not in kept.tensors]
    if not varying or any(kept.rank(operand) != kept.rank(node) for operand in varying):
        return None
    axes = {found[operand].axis for operand in varying if operand in found}
    if len(axes) != 1:
        return None
    (axis,) = axes
    size = node.meta["val"].shape[axis]
    form = [1] * kept.rank(node)
    form[axis] = size

    def value(operand: Any) -> Any:
        if operand in kept.tensors:
            return kept.tensors[operand].detach()
        if operand in found and len(found[operand].values) == size:
            return found[operand].values.reshape(form)
        return torch.full(form, torch.nan)

    arguments = torch.fx.node.map_arg((node.args, node.kwargs), value)
    compute: Callable[..., Any] = node.target  # type: ignore[assignment]
    with torch.no_grad():
        values = compute(*arguments[0], **arguments[1])
    if not isinstance(values, Tensor) or list(values.shape) != form or not values.is_floating_point():
        return None
    values = values.reshape(-1)
    if node.target is aten.mul.Tensor:  # zero times anything
        for operand in varying:
            if operand in found and found[operand].axis == axis:
                values = torch.where(found[operand].values == 0, 0.0, values)
    return Channels(axis, values)


def _concatenated(kept: KeptAxes, node: Node, found: Mapping[Node, Channels]) -> Channels | None:
    parts, axis = parts_of(kept, node)
    values = []
    for part in parts:
        channels = found.get(part)
        size = part.meta["val"].shape[axis]
        if not isinstance(size, int):
            return None
        fits = channels is not None and channels.axis == axis
        values.append(channels.values if fits and channels is not None else torch.full((size,), torch.nan))
    return Channels(axis, torch.cat(values))
