"""This table says which aten operators compute in integers, from which arguments, and why others stay float.

A rule says what an operator can do; whether it is done in a network, plan.py decides from what is around it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.fx import Node

from codeq.activations.moves import is_move, joined
from codeq.graph.nodes import depends_on_input, is_float_tensor, operator_name

aten = torch.ops.aten

WEIGHT_ARGUMENT = 1
"""Position of the weight in a convolution or linear layer: (input, weight, bias, ...)."""

IntegerKind = Literal[
    "convolution",
    "linear",
    "matmul",
    "add",
    "multiply",
    "adaptive_average_pool",
    "average_pool",
    "mean",
    "transposed_convolution",
    "bilinear_resize",
    "concatenate",
    "sigmoid",
    "leaky_relu",
]
"""What an operator computes in integers; each runtime has its own name for the kernel that does it."""


@dataclass(frozen=True)
class Rule:
    """Says how one operator computes in integers.

    Attributes:
        kind: What it computes.
        activations: Positions of the arguments that are quantized.
        has_weight: The second argument must be a quantized weight.
        float_output: The kernel can also give floats, so the output is quantized only for a reader in integers.
        only_if_read: Worth it only where an operator in integers reads the result.
        refuse: Why this node cannot; empty where it can.
    """

    kind: IntegerKind
    activations: tuple[int, ...] = (0,)
    has_weight: bool = False
    float_output: bool = False
    only_if_read: bool = False
    refuse: Callable[[Node], str] = lambda node: ""


def _refuse_alpha(node: Node) -> str:
    return "it scales its second operand" if node.kwargs.get("alpha", 1) != 1 else ""


def _refuse_vectors(node: Node) -> str:
    return "" if all(operand.meta["val"].ndim >= 2 for operand in node.all_input_nodes) else "it multiplies a vector"


def _refuse_ceil(node: Node) -> str:
    if len(node.args) > 4 and node.args[4]:
        return "its last windows are cut off (ceil_mode)"
    return "it divides by another number (divisor_override)" if len(node.args) > 6 and node.args[6] else ""


def _refuse_uneven(node: Node) -> str:
    sizes, wanted = node.args[0].meta["val"].shape[-2:], node.args[1]  # type: ignore[union-attr]
    even = all(
        isinstance(size, int) and isinstance(want, int) and size % want == 0
        for size, want in zip(sizes, wanted, strict=True)  # type: ignore[arg-type]
    )
    return "" if list(wanted) == [1, 1] or even else "its windows differ in size"  # type: ignore[arg-type]


def _refuse_axes(node: Node) -> str:
    rank, axes = node.args[0].meta["val"].ndim, node.args[1]  # type: ignore[union-attr]
    if not isinstance(axes, list | tuple) or len(axes) != 1 or "dtype" in node.kwargs:
        return "it is a mean over several axes"
    return "" if axes[0] % rank else "it is a mean over the batch"


GROUPS_ARGUMENT = 6  # of a transposed convolution: (input, weight, bias, stride, padding, output_padding, groups, ...)


def _refuse_groups(node: Node) -> str:
    groups = node.args[GROUPS_ARGUMENT] if len(node.args) > GROUPS_ARGUMENT else 1
    return "" if groups == 1 else "it is a transposed convolution in groups"


_CONVOLUTION = Rule("convolution", has_weight=True)
_TRANSPOSED = Rule("transposed_convolution", has_weight=True, only_if_read=True, refuse=_refuse_groups)
_PRODUCT = Rule("matmul", activations=(0, 1), float_output=True, refuse=_refuse_vectors)

INTEGER: Mapping[Any, Rule] = {
    aten.conv1d.default: _CONVOLUTION,
    aten.conv1d.padding: _CONVOLUTION,
    aten.conv2d.default: _CONVOLUTION,
    aten.conv2d.padding: _CONVOLUTION,
    aten.conv3d.default: _CONVOLUTION,
    aten.conv3d.padding: _CONVOLUTION,
    aten.conv_transpose1d.default: _TRANSPOSED,
    aten.conv_transpose2d.input: _TRANSPOSED,
    aten.conv_transpose3d.input: _TRANSPOSED,
    aten.linear.default: Rule("linear", has_weight=True, float_output=True),
    aten.matmul.default: _PRODUCT,
    aten.bmm.default: _PRODUCT,
    aten.mm.default: _PRODUCT,
    aten.add.Tensor: Rule("add", activations=(0, 1), only_if_read=True, refuse=_refuse_alpha),
    aten.mul.Tensor: Rule("multiply", activations=(0, 1), only_if_read=True),
    aten.adaptive_avg_pool2d.default: Rule("adaptive_average_pool", only_if_read=True, refuse=_refuse_uneven),
    aten.avg_pool2d.default: Rule("average_pool", only_if_read=True, refuse=_refuse_ceil),
    aten.mean.dim: Rule("mean", only_if_read=True, refuse=_refuse_axes),
    aten.upsample_bilinear2d.vec: Rule("bilinear_resize", only_if_read=True),
    aten.cat.default: Rule("concatenate", only_if_read=True),
    aten.sigmoid.default: Rule("sigmoid", only_if_read=True),
    aten.leaky_relu.default: Rule("leaky_relu", only_if_read=True),
}
"""Operators with an integer kernel in some runtime. Grouped and depthwise convolutions are convolutions."""

_NO_KERNEL = "there is no integer kernel for it"
_INACCURATE = "8 bits lose accuracy here"
_MIXES = "it mixes pixels as floats, between codes"
_NOT_ABSORBED = "it does not follow a layer in integers as its only reader"
FLOAT: Mapping[str, str] = {
    "hardswish": _NO_KERNEL,
    "hardsigmoid": _NO_KERNEL,
    "gelu": _NO_KERNEL,
    "elu": _NO_KERNEL,
    "tanh": _NO_KERNEL,
    "prelu": _NO_KERNEL,
    "embedding": "it looks up a table of floats",
    "embedding_bag": "it looks up a table of floats",
    "batch_norm": "it was not folded into a layer",
    "upsample_bicubic2d": _MIXES,
    "softmax": _INACCURATE,
    "layer_norm": _INACCURATE,
    "group_norm": _INACCURATE,
    "rms_norm": _INACCURATE,
    "scaled_dot_product_attention": f"softmax: {_INACCURATE}",
    "relu": _NOT_ABSORBED,
    "hardtanh": _NOT_ABSORBED,
    "clamp": _NOT_ABSORBED,
}
"""Operators that stay float by intent, with the reason; they read and write quantized tensors where these meet them."""


def activations(node: Node) -> tuple[Node, ...]:
    """Return the arguments that an operator of `INTEGER` reads as activations."""
    if node.target is aten.cat.default:
        return joined(node)
    return tuple(node.args[position] for position in INTEGER[node.target].activations)  # type: ignore[misc]


def refusal(node: Node, refuse_weight: Callable[[Node], str]) -> str:
    """Say why an operator cannot compute in integers; empty where it can.

    Args:
        node: An operator of a canonicalized graph.
        refuse_weight: Why a weight argument cannot feed an integer kernel; empty where it can.
    """
    rule = INTEGER.get(node.target)
    if rule is None:
        return FLOAT.get(operator_name(node), "there is no rule for it")
    if is_move(node):
        return "it moves values"
    operands: tuple[Any, ...] = (
        joined(node)
        if node.target is aten.cat.default
        else tuple(node.args[position] if position < len(node.args) else None for position in rule.activations)
    )
    if not all(isinstance(operand, Node) and is_float_tensor(operand) for operand in operands):
        return "one operand is a number"
    if not all(depends_on_input(operand) for operand in operands):
        return "one operand is a constant"
    if rule.has_weight:
        weight = node.args[WEIGHT_ARGUMENT]
        assert isinstance(weight, Node)
        reason = refuse_weight(weight)
        if reason:
            return reason
    return rule.refuse(node)
