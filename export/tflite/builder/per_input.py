"""Write what is the same for every input of a batch, such as a class token: made of constants and the batch size.

It is evaluated for batches of 1 and 2; rows that differ, as of arange(batch), are no such constant. As floats it is
written as the constant added to a slice of the input times zero, which carries the batch: exact for finite inputs.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx import Node
from torch.fx.node import map_arg

from codeq.graph.nodes import depends_on_input, is_constant
from export.program.program import constant_value
from export.tflite.builder.graph_writer import GraphWriter
from export.tflite.builder.program_reader import ProgramReader, is_size
from export.tflite.builder.value import Value
from export.tflite.file.graph import Tensor as FileTensor
from export.tflite.weights.layout import identity


def per_input_constant(program: ProgramReader, node: Any) -> np.ndarray | None:
    """Find the constant of shape `(1, ...)` that a node repeats along the batch; None where it is something else."""
    if not isinstance(node, Node) or program.open_axes(node) != (0,) or depends_on_input(node):
        return None
    one, two = (evaluate_for_batch(program, node, batch) for batch in (1, 2))
    if one.shape[0] != 1 or two.shape[0] != 2 or not all(torch.equal(row, one[0]) for row in two):
        return None
    return one.numpy()


def repeat_per_input(writer: GraphWriter, source: Value, constant: np.ndarray, name: str) -> Value:
    """Write a constant with an open batch.

    Args:
        writer: Of the graph.
        source: An input, whose batch is taken; no codes.
        constant: float32 of shape `(1, ...)`.
        name: Of the result.
    """
    tensor = writer.tensor(source)
    rank, axes = len(tensor.shape), constant.ndim
    begin, end, step = (
        writer.indices([number] * rank, label) for number, label in ((0, "begin"), (1, "end"), (1, "step"))
    )
    one = FileTensor(f"{name}/one", (1,) * rank, tensor.dtype, None, None, (0,))
    first = writer.operator("STRIDED_SLICE", [source, begin, end, step], one, source.order, beginMask=1, endMask=1)
    if tensor.dtype != np.float32:
        one = FileTensor(one.name, one.shape, np.dtype(np.float32), None, None, (0,))
        first = writer.operator("CAST", [first], one, source.order)
    zero = writer.operator("MUL", [first, writer.number(np.array(0, np.float32), "number")], one, source.order)
    batch = writer.reshape(zero, (1,) * axes, (0,), f"{name}/batch")
    like = FileTensor(name, constant.shape, constant.dtype, None, None, (0,))
    return writer.operator("ADD", [batch, writer.number(constant, f"{name}/row")], like, identity(axes))


def evaluate_for_batch(program: ProgramReader, node: Node, batch: int) -> Tensor:
    """Compute what depends on the batch size alone, for one size."""
    known: dict[Node, Any] = {}

    def size(symbol: Any) -> int:
        if isinstance(symbol, int):
            return symbol
        expression = symbol.node.expr
        return int(expression.subs(dict.fromkeys(expression.free_symbols, batch)))

    def value(operand: Node) -> Any:
        if operand not in known:
            described = operand.meta["val"]
            if is_size(operand):
                known[operand] = size(described)
            elif depends_on_input(operand):  # of which only the shape is read
                known[operand] = torch.zeros([size(symbol) for symbol in described.shape], dtype=described.dtype)
            elif is_constant(operand):
                known[operand] = constant_value(program.program, operand)
            else:
                args, keywords = map_arg((operand.args, operand.kwargs), value)
                known[operand] = operand.target(*args, **keywords)  # type: ignore[operator]
        return known[operand]

    with torch.no_grad():
        result: Tensor = value(node)
    return result
