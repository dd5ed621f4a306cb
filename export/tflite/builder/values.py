"""Keep what the nodes of a program have become, and read it in the order of axes that an operator wants.

    quantize(x, scale, zero_point)            ->  QUANTIZE(x), or the grid of the operator that makes x
    dequantize(quantize(x), scale, ...)       ->  the int8 tensor itself; DEQUANTIZE where an operator reads floats

An operator reads its operands in the order it needs; what only permutes axes changes the order that is noted, and moves
nothing. A transpose is added where the orders differ.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch.fx import Node

from codeq.graph.nodes import is_constant
from codeq.graph.operators import CLAMPS
from export.program.names import codes_name, scope_name
from export.tflite.builder.destination import Destination
from export.tflite.builder.graph_writer import GraphWriter
from export.tflite.builder.per_input import per_input_constant, repeat_per_input
from export.tflite.builder.program_reader import ProgramReader, dequantize, quantize
from export.tflite.builder.refusal import CannotLower
from export.tflite.builder.value import Value
from export.tflite.builder.weight_writer import WeightWriter
from export.tflite.file.graph import TensorGrid
from export.tflite.weights.layout import Order, StoredLayout, flat_order, identity

CONSTANTS = tuple(np.dtype(kind) for kind in (np.float32, np.int64, np.int32, np.bool_))
"""Types of tensors that lie in a file."""


class Values:
    """Holds the value of every node that was lowered; constants are written where they are first read.

    Attributes:
        codes: The order of axes of each quantized activation, by its name.
    """

    def __init__(self, program: ProgramReader, writer: GraphWriter, weights: WeightWriter) -> None:
        self.codes: dict[str, Order] = {}
        self._program = program
        self._writer = writer
        self._weights = weights
        self._values: dict[Node, Value] = {}
        self._parts: dict[Node, Sequence[Value]] = {}
        self._absorbed: set[Node] = set()
        self._floats: dict[int, Value] = {}
        self._reordered: dict[tuple[int, Order, Order], Value] = {}

    def __contains__(self, node: object) -> bool:
        """Tell whether a node has a value already."""
        return node in self._values

    def is_done(self, node: Node) -> bool:
        """Tell whether a node needs no operator of its own, as another one has computed it."""
        return node in self._values or node in self._absorbed

    def read(self, node: Any, order: Order | None = None) -> Value:
        """Read an operand as it is, codes or floats, in an order of axes; None takes the stored one."""
        value = self._values.get(node)
        if value is None:
            value = self._values[node] = self._write_constant(node)
        return value if order is None or value.order == order else self._reorder(node, value, order)

    def read_float(self, node: Any, order: Order | None = None) -> Value:
        """Read an operand as floats; integers and truth values are cast, as PyTorch promotes them."""
        value = self.read(node, order)
        tensor = self._writer.tensor(value)
        if value.quantization is None and tensor.dtype == np.float32:
            return value
        if value.tensor not in self._floats:
            code, label = ("CAST", "float") if value.quantization is None else ("DEQUANTIZE", "dequantized")
            like = replace(tensor, dtype=np.dtype(np.float32), quantization=None)
            made = self._writer.operator(code, [value], like, value.order, label=label)
            self._floats[value.tensor] = replace(made, joined=value.joined)
        return self._floats[value.tensor]

    def are_codes(self, *operands: Any) -> bool:
        """Tell whether operands are activations as codes."""
        return all(isinstance(node, Node) and self.read(node).quantization is not None for node in operands)

    def set(self, node: Node, value: Value) -> None:
        """Say what a node's value is; that of a quantizer is noted by its name."""
        self._values[node] = value
        if node.target is quantize:
            clamp = node.args[0]
            if isinstance(clamp, Node) and clamp.target in CLAMPS and clamp not in self:
                self._absorbed.add(clamp)
            self.codes[scope_name(node)] = value.order

    def set_parts(self, node: Node, parts: Sequence[Value]) -> None:
        """Say what the results of a node with several are."""
        self._parts[node] = parts

    def part(self, node: Node, index: int) -> Value | None:
        """Give one result of a node with several; None where they were not set."""
        return self._parts[node][index] if node in self._parts else None

    def result(
        self,
        node: Node,
        code: str,
        operands: Sequence[Value | int],
        order: Order,
        *,
        target: Destination | None = None,
        quantization: TensorGrid | None = None,
        version: int | None = None,
        **options: Any,
    ) -> None:
        """Add the operator of a node and set its value.

        Args:
            node: Gives the shape.
            code, operands, order, version, options: As for `GraphWriter.operator`.
            target: Where the result goes; None takes the node itself.
            quantization: Of a result that is codes without a quantizer: what moves values keeps their grid.
        """
        target = target or Destination(node)
        name = target.node.name if target.quantization is None else codes_name(scope_name(target.node))
        like = self._program.like(node, order, target.quantization or quantization, name=name)
        self.set(target.node, self._writer.operator(code, operands, like, order, version=version, **options))

    def _reorder(self, node: Node, value: Value, order: Order) -> Value:
        key = (value.tensor, value.order, order)
        if key not in self._reordered:
            writer = self._writer
            like = self._program.like(node, order, value.quantization, name=f"{node.name}/transposed")
            shape = self._program.shape(node)
            # A batch of more than one would make the first axis count; it stays in front in every order.
            same = flat_order(shape, value.order) == flat_order(shape, order)
            batch_in_front = value.order[:1] == order[:1] == (0,)
            if same and batch_in_front and len(like.open_batch) <= 1:
                reshaped = writer.reshape(value, like.shape, like.open_batch, like.name)
                self._reordered[key] = replace(reshaped, order=order)
            else:
                permutation = writer.indices([value.order.index(axis) for axis in order], "permutation")
                self._reordered[key] = writer.operator("TRANSPOSE", [value, permutation], like, order)
        return self._reordered[key]

    def _write_constant(self, node: Any) -> Value:
        assert isinstance(node, Node), node
        program = self._program
        if not is_constant(node):
            repeated = per_input_constant(program, node)
            if repeated is not None and repeated.dtype == np.float32:
                source = self.read_float(next(known for known in self._values if known.op == "placeholder"))
                return repeat_per_input(self._writer, source, repeated, node.name)
            raise CannotLower(
                f"it reads {program.name(node)}, which differs among the inputs of a batch but not by them"
            )
        if node.target is dequantize:
            shape = program.shape(node)
            order = identity(len(shape))
            return Value(self._weights.add(node, StoredLayout(shape, order, shape)), order)
        if program.depends_on_codes(node):
            raise CannotLower("it reads what is computed from a quantized weight, which has no form here yet")
        value = program.constant(node)
        if value is None or value.dtype not in CONSTANTS:
            raise CannotLower(f"it reads a constant that is no tensor of {', '.join(map(str, CONSTANTS))}")
        return Value(self._writer.number(value, program.weight_name(node)), identity(value.ndim))
