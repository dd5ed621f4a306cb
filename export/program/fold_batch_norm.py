"""Fold BatchNorm into the scale of the quantized layer before it. Codes and zeros do not change.

    Before: codes, scale () -> dequantize -> conv -> batch_norm
    After:  codes, scale (C,) -> dequantize -> conv, with bias

In eval mode BatchNorm multiplies channel c by f[c] = gamma[c] / sqrt(var[c] + eps) and adds beta[c] - mean[c] f[c]
(Ioffe and Szegedy 2015, arXiv:1502.03167). A quantized weight is scale * code, so f goes into the scale:

    scale[c] = float32(scale * |f[c]|)        codes[c] negated where f[c] < 0, zero where f[c] = 0
    bias[c]  = float32(beta[c] + (bias[c] - mean[c]) * f[c])

f, the products and the sums are computed in float64 and rounded once. The rounding of the scale, at most 2^-24
relative, is the only change to a weight. A dead channel (all codes zero) has no scale of its own and takes the tensor's
smallest live one: 0, denormals and 1.0 each break some runtime or its accuracy.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from codeq.graph.nodes import replace_node, state_name
from codeq.quantizer.grid import WeightEncoding
from export.program.program import (
    ReferenceProgram,
    add_tensor,
    remove_unused_tensors,
    set_tensor,
)

aten = torch.ops.aten
CHANNEL_AXIS: Mapping[Any, int] = {
    aten.conv1d.default: 0,
    aten.conv2d.default: 0,
    aten.conv3d.default: 0,
    aten.conv1d.padding: 0,
    aten.conv2d.padding: 0,
    aten.conv3d.padding: 0,
    aten.linear.default: 0,
    aten.conv_transpose1d.default: 1,
    aten.conv_transpose2d.input: 1,
    aten.conv_transpose3d.input: 1,
}
"""Where the output channels are in a weight, by operator. All take (input, weight, bias, ...)."""
GROUPS_ARGUMENT = 6  # of the transposed convolutions: (input, weight, bias, stride, padding, output_padding, groups)


def channel_factors(gamma: Tensor | None, variance: Tensor, eps: float) -> Tensor:
    """f = gamma / sqrt(variance + eps), float64 `(C,)`; gamma None counts as 1."""
    # A square root and a quotient, which IEEE 754 rounds correctly: whoever checks computes the same bits.
    numerator = torch.ones_like(variance) if gamma is None else gamma
    return numerator.double() / (variance.double() + eps).sqrt()


def fold_into_encoding(encoding: WeightEncoding, factors: Tensor, axis: int) -> WeightEncoding:
    """Scale channel c of an encoding by `factors[c]`.

    Args:
        encoding: Per tensor.
        factors: float64 `(C,)`, finite.
        axis: The channel axis of the codes.

    Raises:
        ValueError: A channel's scale would leave float32's normal range.
    """
    shape = [1] * encoding.codes.ndim
    shape[axis] = -1
    codes = encoding.codes * factors.sign().to(torch.int8).reshape(shape)
    scale = (encoding.scale.double() * factors.abs()).float()
    alive = codes.ne(0).transpose(0, axis).flatten(1).any(1)
    live = scale[alive]
    if live.numel() and not bool((live >= torch.finfo(torch.float32).tiny).all() and torch.isfinite(live).all()):
        raise ValueError("a channel's scale leaves float32's normal range")
    scale = torch.where(alive, scale, live.min() if live.numel() else encoding.scale)
    shift = None
    if encoding.shift is not None:
        shift = (encoding.shift.double() * factors.abs()).float()
    return dataclasses.replace(encoding, codes=codes, scale=scale, axis=axis, shift=shift)


def fold_batch_norm(program: ReferenceProgram) -> int:
    """Fold every BatchNorm that directly follows a quantized layer, in place.

    Returns:
        How many were folded. The others, with the reason, are in `program.skipped_folds`.
    """
    folded = 0
    for node in list(program.exported.graph.nodes):
        if node.target is not aten.batch_norm.default:
            continue
        name = _batch_norm_name(program, node)
        reason = _fold(program, node, name)
        if reason is None:
            folded += 1
        else:
            program.skipped_folds[name] = reason
    remove_unused_tensors(program)
    return folded


def _fold(program: ReferenceProgram, node: Node, name: str) -> str | None:
    """Fold one BatchNorm; a reason where it cannot be."""
    layer, gamma, beta, mean, variance, training, _, eps = node.args[:8]
    if training or mean is None or variance is None:
        return "it normalises with the statistics of its batch"
    if not isinstance(layer, Node) or layer.target not in CHANNEL_AXIS:
        return "no convolution or linear layer before it"
    if len(layer.users) > 1:
        return "the layer before it has other consumers"
    axis = CHANNEL_AXIS[layer.target]
    if axis == 1 and len(layer.args) > GROUPS_ARGUMENT and layer.args[GROUPS_ARGUMENT] != 1:
        return "a grouped transposed convolution has no axis per output channel"
    if layer.target is aten.linear.default and layer.meta["val"].ndim != 2:
        return "the channels of the linear layer before it are not those it normalises"
    dequantize = layer.args[1]
    if not isinstance(dequantize, Node) or dequantize.target is not torch.ops.codeq.dequantize.default:
        return "the layer before it is not quantized"
    codes_node, scale_node, shift_node, _ = dequantize.args
    assert isinstance(codes_node, Node)
    assert isinstance(scale_node, Node)
    if len(dequantize.users) > 1 or len(codes_node.users) > 1 or len(scale_node.users) > 1:
        return "its weight is shared"

    def value(argument: object) -> Tensor | None:
        if not isinstance(argument, Node):
            return None
        state = state_name(program.exported, argument)
        return None if state is None else program.exported.state_dict[state]

    codes_name = state_name(program.exported, codes_node)
    assert codes_name is not None
    record = program.weights[codes_name]
    mean_value, variance_value = value(mean), value(variance)
    if mean_value is None or variance_value is None:
        return "its statistics are computed in the graph"
    factors = channel_factors(value(gamma), variance_value, float(eps))  # type: ignore[arg-type]
    bias_node = layer.args[2] if len(layer.args) > 2 else None
    bias, beta_value = value(bias_node), value(beta)
    if bias_node is not None and bias is None:
        return "the bias before it is computed in the graph"
    try:
        encoding = fold_into_encoding(record.encoding, factors, axis)
    except ValueError as error:
        return str(error)
    shifted = (0 if bias is None else bias.double()) - mean_value.double()
    folded_bias = (shifted * factors + (0 if beta_value is None else beta_value.double())).float()

    set_tensor(program, codes_node, encoding.codes)
    set_tensor(program, scale_node, encoding.scale)
    if isinstance(shift_node, Node):
        assert encoding.shift is not None
        set_tensor(program, shift_node, encoding.along_axis(encoding.shift))
    dequantize.args = (codes_node, scale_node, shift_node, axis)
    layer_name = record.name.rpartition(".")[0]
    new_bias = add_tensor(program, f"{layer_name}.folded_bias".lstrip("."), folded_bias)
    layer.args = (*layer.args[:2], new_bias, *layer.args[3:])
    replace_node(program.exported, node, layer)
    record.encoding, record.batch_norm = encoding, name
    return None


def _batch_norm_name(program: ReferenceProgram, node: Node) -> str:
    for argument in node.args[1:5]:
        state = state_name(program.exported, argument) if isinstance(argument, Node) else None
        if state is not None:
            return state.rpartition(".")[0]
    return node.name
