"""Activation functions of each value on its own, and softmax, are computed on floats.

relu, relu6, hardtanh and clamps are exact. Exponentials (sigmoid, tanh, softmax, gelu) are the runtime's own
approximations, within some 1e-7 of PyTorch's.
"""

from typing import Any

import numpy as np
import torch
from torch.fx import Node

from codeq.graph.operators import CLAMPS
from export.tflite.builder.builder import Builder
from export.tflite.builder.destination import FUSED_CLAMPS
from export.tflite.builder.refusal import CannotLower
from export.tflite.file.graph import RELU, RELU6, RELU_N1_TO_1
from export.tflite.operators.registry import lowers

aten = torch.ops.aten

CLAMP_CODES = {RELU: "RELU", RELU6: "RELU6", RELU_N1_TO_1: "RELU_N1_TO_1"}
UNARY: dict[Any, str] = {
    aten.sigmoid.default: "LOGISTIC",
    aten.tanh.default: "TANH",
    aten.hardswish.default: "HARD_SWISH",
}


@lowers(*CLAMPS)
def lower_clamp(build: Builder, node: Node) -> None:
    """Write one operator where LiteRT has it, else MINIMUM and MAXIMUM with a number."""
    low, high = CLAMPS[node.target](node)
    x = build.values.read_float(node.args[0])
    if (low, high) in FUSED_CLAMPS:
        build.values.result(node, CLAMP_CODES[FUSED_CLAMPS[low, high]], [x], x.order)
        return
    like = build.program.like(node, x.order)
    for code, limit in (("MAXIMUM", low), ("MINIMUM", high)):
        if np.isfinite(limit):
            x = build.writer.operator(
                code, [x, build.writer.number(np.array(limit, np.float32), "limit")], like, x.order
            )
    build.values.set(node, x)


@lowers(*UNARY)
def lower_unary(build: Builder, node: Node) -> None:
    """Write one operator for each."""
    x = build.values.read_float(node.args[0])
    build.values.result(node, UNARY[node.target], [x], x.order)


@lowers(aten.gelu.default)
def lower_gelu(build: Builder, node: Node) -> None:
    """Write GELU, by the error function or by tanh."""
    x = build.values.read_float(node.args[0])
    build.values.result(node, "GELU", [x], x.order, approximate=node.kwargs.get("approximate", "none") == "tanh")


@lowers(aten.leaky_relu.default)
def lower_leaky_relu(build: Builder, node: Node) -> None:
    """Write LEAKY_RELU."""
    x = build.values.read_float(node.args[0])
    slope = node.args[1] if len(node.args) > 1 else 0.01
    build.values.result(node, "LEAKY_RELU", [x], x.order, alpha=float(slope))  # type: ignore[arg-type]


@lowers(aten.softmax.int, aten.log_softmax.int)
def lower_softmax(build: Builder, node: Node) -> None:
    """Write SOFTMAX or LOG_SOFTMAX, which are over the last axis as stored."""
    rank = len(build.program.shape(node))
    axis = int(node.args[1]) % rank  # type: ignore[arg-type]
    kind = node.args[2] if len(node.args) > 2 else node.kwargs.get("dtype")
    if kind not in (None, torch.float32):
        raise CannotLower("it changes the type")
    stored = build.values.read_float(node.args[0]).order
    order = (*(place for place in stored if place != axis), axis)
    value = build.values.read_float(node.args[0], order)
    if node.target is aten.log_softmax.int:
        build.values.result(node, "LOG_SOFTMAX", [value], order)
    else:
        build.values.result(node, "SOFTMAX", [value], order, beta=1.0)
