"""What is the same for every input of a batch, such as a class token or a mask: made of constants and the batch size.

Evaluated for batches of 1 and 2; rows that differ, as of arange(batch), are no such constant. As floats it is written
as the constant added to a slice of the input times zero, which carries the batch: exact for finite inputs.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.fx import Node
from torch.fx.node import map_arg

from codeq.graph.nodes import is_constant
from export.program.program import constant_value
from export.tflite.file.graph import Tensor as FileTensor
from export.tflite.weights.layout import identity

if TYPE_CHECKING:
    from export.tflite.build import Build
    from export.tflite.value import Value


def depends_on_input(node: Node, known: dict[Node, bool]) -> bool:
    """Whether a node's values are computed from those of an input, not from its batch size alone."""
    if node not in known:
        if node.op == "placeholder":
            known[node] = not is_constant(node)
        else:
            known[node] = not _is_size(node) and any(
                depends_on_input(operand, known) for operand in node.all_input_nodes
            )
    return known[node]


def per_input_constant(build: "Build", node: Any) -> np.ndarray | None:
    """The constant of shape `(1, ...)` that a node repeats along the batch; None where it is something else."""
    if not isinstance(node, Node) or build.open_axes(node) != (0,) or build.depends_on_input(node):
        return None
    one, two = (_evaluate(build, node, batch) for batch in (1, 2))
    if one.shape[0] != 1 or two.shape[0] != 2 or not all(torch.equal(row, one[0]) for row in two):
        return None
    return one.numpy()


def repeat_per_input(build: "Build", node: Node, constant: np.ndarray) -> "Value":
    """A float32 constant of shape `(1, ...)` with an open batch, as the file computes it."""
    source = build.read_float(next(n for n in build.values if n.op == "placeholder"))
    tensor = build.graph.tensors[source.tensor]
    rank, axes = len(tensor.shape), constant.ndim
    begin, end, step = (
        build.indices([number] * rank, label) for number, label in ((0, "begin"), (1, "end"), (1, "step"))
    )
    one = FileTensor(f"{node.name}/one", (1,) * rank, tensor.dtype, None, None, (0,))
    first = build.operator("STRIDED_SLICE", [source, begin, end, step], one, source.order, beginMask=1, endMask=1)
    if tensor.dtype != np.float32:
        one = FileTensor(one.name, one.shape, np.dtype(np.float32), None, None, (0,))
        first = build.operator("CAST", [first], one, source.order)
    zero = build.operator("MUL", [first, build.number(np.array(0, np.float32), "number")], one, source.order)
    batch = build.reshape(zero, (1,) * axes, (0,), f"{node.name}/batch")
    like = FileTensor(node.name, constant.shape, constant.dtype, None, None, (0,))
    return build.operator("ADD", [batch, build.number(constant, f"{node.name}/row")], like, identity(axes))


def _is_size(node: Node) -> bool:
    return not isinstance(node.meta.get("val"), Tensor | tuple | list)


def _evaluate(build: "Build", node: Node, batch: int) -> Tensor:
    known: dict[Node, Any] = {}

    def value(operand: Node) -> Any:
        if operand not in known:
            if _is_size(operand):
                expression = operand.meta["val"].node.expr
                known[operand] = int(expression.subs(dict.fromkeys(expression.free_symbols, batch)))
            elif is_constant(operand):
                known[operand] = constant_value(build.program, operand)
            else:
                args, keywords = map_arg((operand.args, operand.kwargs), value)
                known[operand] = operand.target(*args, **keywords)  # type: ignore[operator]
        return known[operand]

    with torch.no_grad():
        result: Tensor = value(node)
    return result
