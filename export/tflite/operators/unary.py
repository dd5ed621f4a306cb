"""Functions of each number on its own are one operator of LiteRT, or a short formula of several, on floats.

    softplus(x)   ->  max(x, 0) + log(1 + exp(-|x|))      never overflows
    mish(x)       ->  x * tanh(softplus(x))
    hardsigmoid   ->  min(max(x + 3, 0), 6) / 6
    selu, celu    ->  ELU of a scaled input, scaled

NEG, ABS, SQRT, SQUARE, FLOOR, CEIL, ROUND and SIGN are exact; the others are the runtime's own approximations, within
some 1e-6 of PyTorch's values.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch.fx import Node

from export.program.arguments import fill
from export.tflite.builder.builder import Builder
from export.tflite.builder.refusal import CannotLower
from export.tflite.builder.value import Value
from export.tflite.file.graph import NO_ACTIVATION, RELU6
from export.tflite.operators.registry import lowers

aten = torch.ops.aten

FUNCTIONS: Mapping[Any, str] = {
    aten.abs.default: "ABS",
    aten.ceil.default: "CEIL",
    aten.cos.default: "COS",
    aten.exp.default: "EXP",
    aten.floor.default: "FLOOR",
    aten.log.default: "LOG",
    aten.neg.default: "NEG",
    aten.round.default: "ROUND",
    aten.rsqrt.default: "RSQRT",
    aten.sign.default: "SIGN",
    aten.sin.default: "SIN",
    aten.sqrt.default: "SQRT",
    aten.square.default: "SQUARE",
}
POWERS = {2: "SQUARE", 0.5: "SQRT", -0.5: "RSQRT"}
"""Exponents that have an operator of their own."""
SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


class Formula:
    """Writes the steps of a formula, all of one shape and order.

    Args:
        build: To write to.
        node: Gives the shape.
        like: A value that gives the order.
    """

    def __init__(self, build: Builder, node: Node, like: Value) -> None:
        self.writer, self.order = build.writer, like.order
        self.like = build.program.like(node, like.order)

    def __call__(self, code: str, *operands: Value | float, **options: Any) -> Value:
        """Write one operator on values and numbers."""
        if code in ("ADD", "MUL", "SUB", "DIV"):
            options.setdefault("fusedActivationFunction", NO_ACTIVATION)
        found = [
            operand if isinstance(operand, Value) else self.writer.number(np.array(operand, np.float32), "number")
            for operand in operands
        ]
        return self.writer.operator(code, found, self.like, self.order, **options)


@lowers(*FUNCTIONS)
def lower_function(build: Builder, node: Node) -> None:
    """Write one operator."""
    x = build.values.read_float(node.args[0])
    build.values.result(node, FUNCTIONS[node.target], [x], x.order)


@lowers(aten.pow.Tensor_Scalar)
def lower_power(build: Builder, node: Node) -> None:
    """Write SQUARE, SQRT or RSQRT where they are meant, else POW."""
    x, exponent = build.values.read_float(node.args[0]), node.args[1]
    if exponent in POWERS:
        build.values.result(node, POWERS[exponent], [x], x.order)  # type: ignore[index]
    else:
        build.values.set(node, Formula(build, node, x)("POW", x, float(exponent)))  # type: ignore[arg-type]


@lowers(aten.reciprocal.default)
def lower_reciprocal(build: Builder, node: Node) -> None:
    """Write one divided by it."""
    x = build.values.read_float(node.args[0])
    build.values.set(node, Formula(build, node, x)("DIV", 1.0, x))


@lowers(aten.elu.default)
def lower_elu(build: Builder, node: Node) -> None:
    """Write ELU; with another alpha, of the negative half alone."""
    _, alpha, scale, input_scale = fill(node, None, 1.0, 1.0, 1.0)
    if scale != 1 or input_scale != 1:
        raise CannotLower("it scales its input or its result")
    _write_elu(build, node, float(alpha), 1.0, 1.0)


@lowers(aten.selu.default)
def lower_selu(build: Builder, node: Node) -> None:
    """Write ELU and its two factors."""
    _write_elu(build, node, SELU_ALPHA, SELU_SCALE, 1.0)


@lowers(aten.celu.default)
def lower_celu(build: Builder, node: Node) -> None:
    """Write ELU of x / alpha, times alpha."""
    alpha = float(fill(node, None, 1.0)[1])
    _write_elu(build, node, alpha, 1.0, alpha)


def _write_elu(build: Builder, node: Node, alpha: float, scale: float, divisor: float) -> None:
    """Write scale * (max(x, 0) + alpha * elu(min(x, 0) / divisor))."""
    value = build.values.read_float(node.args[0])
    step = Formula(build, node, value)
    if alpha == divisor == 1:
        result = step("ELU", value)
    else:
        low = step("MINIMUM", value, 0.0)
        low = step("ELU", step("DIV", low, divisor) if divisor != 1 else low)
        result = step("ADD", step("RELU", value), step("MUL", low, alpha))
    build.values.set(node, step("MUL", result, scale) if scale != 1 else result)


@lowers(aten.hardsigmoid.default)
def lower_hard_sigmoid(build: Builder, node: Node) -> None:
    """Write ADD with RELU6, and a division."""
    x = build.values.read_float(node.args[0])
    step = Formula(build, node, x)
    build.values.set(node, step("DIV", step("ADD", x, 3.0, fusedActivationFunction=RELU6), 6.0))


@lowers(aten.softplus.default)
def lower_softplus(build: Builder, node: Node) -> None:
    """Write the formula; PyTorch's threshold, beyond which it gives x itself, lies where both agree in float32."""
    x, beta, threshold = fill(node, None, 1, 20)
    if beta != 1 or threshold < 17:
        raise CannotLower("its beta is not 1, or its threshold below 17")
    value = build.values.read_float(x)
    build.values.set(node, _softplus(Formula(build, node, value), value))


@lowers(aten.mish.default)
def lower_mish(build: Builder, node: Node) -> None:
    """Write x * tanh(softplus(x))."""
    x = build.values.read_float(node.args[0])
    step = Formula(build, node, x)
    build.values.set(node, step("MUL", x, step("TANH", _softplus(step, x))))


@lowers(aten.log_sigmoid.default)
def lower_log_sigmoid(build: Builder, node: Node) -> None:
    """Write -softplus(-x)."""
    x = build.values.read_float(node.args[0])
    step = Formula(build, node, x)
    build.values.set(node, step("NEG", _softplus(step, step("NEG", x))))


def _softplus(step: Callable[..., Value], x: Value) -> Value:
    decay = step("EXP", step("NEG", step("ABS", x)))
    return step("ADD", step("RELU", x), step("LOG", step("ADD", decay, 1.0)))


@lowers(aten.prelu.default)
def lower_prelu(build: Builder, node: Node) -> None:
    """Write PRELU with one slope, or one per channel, along the channels as stored."""
    x, slopes = node.args[:2]
    values = build.program.constant(slopes)
    if values is None or build.program.depends_on_codes(slopes):  # type: ignore[arg-type]
        raise CannotLower("its slopes are computed")
    value = build.values.read_float(x)
    shape = [1] * (len(value.order) - 1)
    if values.size > 1:
        shape[value.order.index(1) - 1] = values.size
    numbers = build.writer.number(np.ascontiguousarray(values.reshape(shape)), build.program.weight_name(slopes))  # type: ignore[arg-type]
    build.values.result(node, "PRELU", [value, numbers], value.order)
