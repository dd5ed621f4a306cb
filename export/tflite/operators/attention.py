"""Matrix products and attention are computed on floats: PyTorch's sums in another order, the runtime's exponentials.

scaled_dot_product_attention(q, k, v)  ->  BATCH_MATMUL(SOFTMAX(BATCH_MATMUL(scale * q, k transposed)), v)
"""

import math
from typing import Any

import numpy as np
import torch
from torch.fx import Node

from codeq.graph.nodes import depends_on_input
from export.program.arguments import fill
from export.tflite.builder.builder import Builder
from export.tflite.builder.per_input import per_input_constant
from export.tflite.builder.refusal import CannotLower
from export.tflite.builder.value import Value
from export.tflite.file.graph import Tensor
from export.tflite.operators.arithmetic import read_broadcast
from export.tflite.operators.registry import lowers
from export.tflite.weights.layout import identity

aten = torch.ops.aten

MASKED = np.float32(-1e30)
"""Its exponential is zero, as that of minus infinity. Where an input masks all keys of a query, all count alike."""


@lowers(aten.matmul.default, aten.bmm.default, aten.mm.default)
def lower_product(build: Builder, node: Node) -> None:
    """Write BATCH_MATMUL of two tensors of equally many dimensions."""
    ranks = [len(build.program.shape(operand)) for operand in node.args]  # type: ignore[arg-type]
    if ranks[0] != ranks[1] or ranks[0] < 2:
        raise CannotLower(f"it multiplies tensors of {ranks[0]} and {ranks[1]} dimensions")
    order = identity(ranks[0])
    operands = [build.values.read_float(operand, order) for operand in node.args]
    build.values.result(node, "BATCH_MATMUL", operands, order, adjX=False, adjY=False)


@lowers(aten.scaled_dot_product_attention.default)
def lower_attention(build: Builder, node: Node) -> None:
    """Write two products around a SOFTMAX. A mask is a constant that is added; one that masks nothing is left out."""
    query, key, value, mask, dropout, causal = fill(node, None, None, None, None, 0.0, False)
    mask = node.kwargs.get("attn_mask", mask)
    if dropout or node.kwargs.get("enable_gqa"):
        raise CannotLower("it has dropout or shares keys among heads")
    assert isinstance(query, Node)
    assert isinstance(key, Node)
    shape, tokens = build.program.shape(query), build.program.shape(key)[-2]
    scale = node.kwargs.get("scale")
    factor = 1 / math.sqrt(shape[-1]) if scale is None else float(scale)  # type: ignore[arg-type]
    order = identity(len(shape))
    causal = bool(node.kwargs.get("is_causal", causal))
    added: Value | int | None
    if isinstance(mask, Node) and depends_on_input(mask):
        added = _computed_mask(build, mask, len(shape))
    else:
        added = _constant_mask(build, mask, (*shape[:-1], tokens), causal=causal)
    scaled = build.writer.operator(
        "MUL",
        [build.values.read_float(query, order), build.writer.number(np.array(factor, np.float32), "number")],
        build.program.like(query, order, name=f"{node.name}/scaled"),
        order,
    )
    open_batch = build.program.open_axes(query)
    weights = Tensor(f"{node.name}/weights", (*shape[:-1], tokens), np.dtype(np.float32), None, None, open_batch)
    products = build.writer.operator(
        "BATCH_MATMUL", [scaled, build.values.read_float(key, order)], weights, order, adjX=False, adjY=True
    )
    if added is not None:
        products = build.writer.operator("ADD", [products, added], weights, order)
    probabilities = build.writer.operator("SOFTMAX", [products], weights, order, beta=1.0)
    build.values.result(
        node, "BATCH_MATMUL", [probabilities, build.values.read_float(value, order)], order, adjX=False, adjY=False
    )


def _computed_mask(build: Builder, mask: Node, rank: int) -> Value:
    """Write what is added to products of queries and keys: a mask that the input gives, as floats or truth values."""
    order = identity(rank)
    value = read_broadcast(build, mask, order)
    assert isinstance(value, Value)
    if mask.meta["val"].dtype is not torch.bool:
        return value
    like = build.writer.tensor(value)
    one, masked = (build.writer.number(np.array(number, np.float32), "number") for number in (1, -MASKED))
    off = build.writer.operator("SUB", [value, one], like, order, label="off")
    return build.writer.operator("MUL", [off, masked], like, order, label="added")


def _constant_mask(build: Builder, mask: Any, shape: tuple[int, ...], *, causal: bool) -> int | None:
    """Write what is added to products of queries and keys of some shape, a constant; None where it is nothing.

    Raises:
        CannotLower: It differs among the inputs but not by them, or masks all keys of a query.
    """
    added = _mask_values(build, mask, shape[-2], shape[-1], causal=causal)
    if added is None:
        return None
    return build.writer.number(added.reshape((1,) * (len(shape) - added.ndim) + added.shape), "mask")


def _mask_values(build: Builder, mask: Any, queries: int, tokens: int, *, causal: bool) -> np.ndarray | None:
    if causal:
        seen = np.tril(np.ones((queries, tokens), bool))
    elif mask is None:
        return None
    else:
        found = per_input_constant(build.program, mask)
        found = build.program.constant(mask) if found is None else found
        if found is None:
            raise CannotLower("its mask differs among the inputs of a batch but not by them")
        if found.dtype != bool:
            return found if found.any() else None
        seen = found
    if seen.all():
        return None
    if not seen.any(-1).all():
        raise CannotLower("its mask leaves a query without keys")
    return np.where(seen, np.float32(0), MASKED)
