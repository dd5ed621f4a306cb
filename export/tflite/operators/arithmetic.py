"""Sums, products, quotients and the like take numbers and broadcast. On floats they are exact; POW is the runtime's.

On codes, in XNNPACK: ADD multiplies centered codes by 21-bit integers and rounds half up,
MUL is clip(rint(f32(a * b) * f32(s_a * s_b / s_out)) + zero point).
"""

from typing import Any

import numpy as np
import torch
from torch.fx import Node

from export.tflite.builder.builder import Builder
from export.tflite.builder.destination import Destination, find_destination
from export.tflite.builder.refusal import CannotLower
from export.tflite.builder.value import Value
from export.tflite.file.graph import Tensor
from export.tflite.operators.registry import lowers
from export.tflite.operators.requantization import check_ratio
from export.tflite.weights.layout import Order, identity

aten = torch.ops.aten

CODES: dict[Any, str] = {
    aten.add.Tensor: "ADD",
    aten.mul.Tensor: "MUL",
    aten.sub.Tensor: "SUB",
    aten.rsub.Scalar: "SUB",
    aten.rsub.Tensor: "SUB",
    aten.div.Tensor: "DIV",
    aten.maximum.default: "MAXIMUM",
    aten.minimum.default: "MINIMUM",
    aten.pow.Tensor_Tensor: "POW",
    aten.pow.Scalar: "POW",
}
SWAPPED = frozenset({aten.rsub.Scalar, aten.rsub.Tensor})
"""They take their first operand off their second."""
CLAMPING = frozenset({"ADD", "MUL", "SUB", "DIV"})
"""Operators that apply a clamp to their result themselves."""
ON_CODES = frozenset({"ADD", "MUL"})


@lowers(*CODES)
def lower_arithmetic(build: Builder, node: Node) -> None:
    """Read both operands in the order of the first that has as many dimensions as the result."""
    code = CODES[node.target]
    rank = len(build.program.shape(node))
    arguments = node.args[:2]
    if node.kwargs.get("alpha", 1) != 1 or len(node.args) > 2:
        raise CannotLower("it scales its second operand (alpha)")
    full = [operand for operand in arguments if isinstance(operand, Node) and len(build.program.shape(operand)) == rank]
    computed = [operand for operand in full if operand in build.values]
    order = build.values.read((computed or full)[0]).order if full else identity(rank)
    integer = code in ON_CODES and build.values.are_codes(*arguments)
    target = find_destination(build.program, node, integer=integer) if code in CLAMPING else Destination(node)
    integer = target.quantization is not None
    operands = [read_broadcast(build, operand, order, as_is=integer) for operand in arguments]
    if node.target in SWAPPED:
        operands.reverse()
    if target.quantization is not None:
        scales = [
            operand.quantization.scale for operand in operands if isinstance(operand, Value) and operand.quantization
        ]
        for scale in scales if code == "ADD" else [scales[0] * scales[1]]:
            check_ratio(build.program.name(node), code, scale, target.quantization)
        build.integer[build.program.name(node)] = code
    options: dict[str, Any] = {"fusedActivationFunction": target.activation} if code in CLAMPING else {}
    build.values.result(node, code, operands, order, target=target, **options)


def read_broadcast(build: Builder, operand: Any, order: Order, *, as_is: bool = False) -> Value | int:
    """Read an operand that broadcasts to a result of some order: ones in front of its shape, then the order.

    Args:
        build: That has it.
        operand: A node or a number.
        order: Of the result.
        as_is: Take codes, truth values and integers as they are; else as floats.
    """
    if not isinstance(operand, Node):
        return build.writer.number(np.array(operand, np.float32), "number")
    shape = build.program.shape(operand)
    missing = len(order) - len(shape)
    if not missing:
        return build.values.read(operand, order) if as_is else build.values.read_float(operand, order)
    if operand not in build.values:
        value = build.program.constant(operand)
        if value is not None and value.dtype == np.float32 and not build.program.depends_on_codes(operand):
            wide = value.reshape((1,) * missing + shape).transpose(order)
            return build.writer.number(np.ascontiguousarray(wide), build.program.weight_name(operand))
    if not shape:
        return build.values.read(operand) if as_is else build.values.read_float(operand)
    plain = (
        build.values.read(operand, identity(len(shape)))
        if as_is
        else build.values.read_float(operand, identity(len(shape)))
    )
    source = build.writer.tensor(plain)
    open_batch = tuple(axis + missing for axis in source.open_batch)
    wide_value = build.writer.reshape(plain, (1,) * missing + shape, open_batch, f"{source.name}/wide")
    if order == identity(len(order)):
        return wide_value
    stored = tuple(((1,) * missing + shape)[axis] for axis in order)
    like = Tensor(f"{source.name}/moved", stored, source.dtype, None, plain.quantization)
    return build.writer.operator("TRANSPOSE", [wide_value, build.writer.indices(order, "permutation")], like, order)
