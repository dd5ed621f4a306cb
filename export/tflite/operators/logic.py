"""Comparisons, truth values, choices between two tensors and casts are lowered here: masks of attention are made of
them. Exact.

    where(c, a, b)           ->  SELECT_V2(c, a, b)
    masked_fill(x, m, v)     ->  SELECT_V2(m, v, x)
    index_fill(x, 1, n, v)   ->  likewise; the mask is a constant

Integers are compared as floats: exactly up to 2^24, which ids of tokens and positions do not reach.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.fx import Node

from export.tflite.builder.builder import Builder
from export.tflite.builder.refusal import CannotLower
from export.tflite.builder.value import Value
from export.tflite.operators.arithmetic import read_broadcast
from export.tflite.operators.registry import lowers
from export.tflite.weights.layout import Order, identity

aten = torch.ops.aten

COMPARISONS: Mapping[Any, str] = {
    getattr(getattr(aten, name), kind): code
    for name, code in {
        "eq": "EQUAL",
        "ne": "NOT_EQUAL",
        "lt": "LESS",
        "le": "LESS_EQUAL",
        "gt": "GREATER",
        "ge": "GREATER_EQUAL",
    }.items()
    for kind in ("Tensor", "Scalar")
}
CONNECTIVES: Mapping[Any, str] = {
    aten.logical_and.default: "LOGICAL_AND",
    aten.bitwise_and.Tensor: "LOGICAL_AND",
    aten.__and__.Tensor: "LOGICAL_AND",
    aten.logical_or.default: "LOGICAL_OR",
    aten.__or__.Tensor: "LOGICAL_OR",
    aten.bitwise_or.Tensor: "LOGICAL_OR",
    aten.logical_not.default: "LOGICAL_NOT",
    aten.bitwise_not.default: "LOGICAL_NOT",
}
CASTS = (
    aten.to.device,
    aten.to.dtype,
    aten.to.dtype_layout,
    aten.to.other,
    aten._to_copy.default,
    aten.type_as.default,
)
CASTABLE = frozenset({torch.float32, torch.int64, torch.int32, torch.bool, torch.uint8})


@lowers(*COMPARISONS, any_type=True)
def lower_comparison(build: Builder, node: Node) -> None:
    """Write one comparison of floats."""
    order = _order(build, node)
    operands = [read_broadcast(build, operand, order) for operand in node.args[:2]]
    build.values.result(node, COMPARISONS[node.target], operands, order)


@lowers(*CONNECTIVES, any_type=True)
def lower_connective(build: Builder, node: Node) -> None:
    """Write LOGICAL_AND, LOGICAL_OR or LOGICAL_NOT of truth values."""
    operands = [operand for operand in node.args if isinstance(operand, Node)]
    if any(operand.meta["val"].dtype is not torch.bool for operand in operands):
        raise CannotLower("it combines numbers, expected truth values")
    order = _order(build, node)
    found = [read_broadcast(build, operand, order, as_is=True) for operand in operands]
    build.values.result(node, CONNECTIVES[node.target], found, order)


@lowers(aten.where.self, aten.where.ScalarOther, aten.where.ScalarSelf, aten.where.Scalar)
def lower_where(build: Builder, node: Node) -> None:
    """Write SELECT_V2."""
    condition, chosen, other = node.args
    _select(build, node, condition, chosen, other)


@lowers(aten.masked_fill.Scalar, aten.masked_fill.Tensor)
def lower_masked_fill(build: Builder, node: Node) -> None:
    """Write SELECT_V2 with the number."""
    x, mask, number = node.args
    _select(build, node, mask, number, x)


@lowers(aten.index_fill.int_Scalar)
def lower_index_fill(build: Builder, node: Node) -> None:
    """Write SELECT_V2 by a constant mask of the places that are filled."""
    x, axis, index, number = node.args
    value, shape = build.values.read_float(x), build.program.shape(node)
    axis = int(axis) % len(shape)  # type: ignore[arg-type]
    places = build.program.constant(index)
    if places is None:
        raise CannotLower("it writes to computed places")
    if axis in build.program.open_axes(node):
        raise CannotLower("it writes into a part of the batch")
    mask = np.zeros(shape[axis], bool)
    mask[places] = True
    wide = mask.reshape([-1 if other == axis else 1 for other in value.order])
    filling = build.writer.number(np.array(number, np.float32), "number")
    build.values.result(node, "SELECT_V2", [build.writer.number(wide, "mask"), filling, value], value.order)


@lowers(*CASTS, any_type=True)
def lower_cast(build: Builder, node: Node) -> None:
    """Write CAST; a cast to the type that the values have is none."""
    source = node.args[0]
    assert isinstance(source, Node)
    old, new = source.meta["val"].dtype, node.meta["val"].dtype
    if old is new:
        build.values.set(node, build.values.read(source))
        return
    if old not in CASTABLE or new not in CASTABLE - {torch.uint8}:
        raise CannotLower(f"it casts {old} to {new}")
    if new is torch.float32:
        build.values.set(node, build.values.read_float(source))
        return
    value = build.values.read(source)
    if new is torch.bool:  # a cast would cut 0.5 off to 0
        value = build.values.read_float(source)
        build.values.result(
            node, "NOT_EQUAL", [value, build.writer.number(np.array(0, np.float32), "zero")], value.order
        )
    else:
        build.values.result(node, "CAST", [value], value.order)


def _select(build: Builder, node: Node, condition: Any, chosen: Any, other: Any) -> None:
    order = _order(build, node)
    operands: list[Value | int] = [read_broadcast(build, condition, order, as_is=True)]
    operands += [read_broadcast(build, operand, order) for operand in (chosen, other)]
    build.values.result(node, "SELECT_V2", operands, order)


def _order(build: Builder, node: Node) -> Order:
    """Take the order of the first computed operand that has as many dimensions as the result."""
    rank = len(build.program.shape(node))
    for operand in node.args:
        if isinstance(operand, Node) and operand in build.values and len(build.program.shape(operand)) == rank:
            return build.values.read(operand).order
    return identity(rank)
