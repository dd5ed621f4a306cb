"""The LiteRT graph of a program while it is made. Exact: weights keep their codes and scales, bit for bit.

    dequantize(codes, scale, shift)           ->  see export/tflite/weights/tensor.py
    quantize(x, scale, zero_point)            ->  QUANTIZE(x), or the grid of the operator that makes x
    dequantize(quantize(x), scale, ...)       ->  the int8 tensor itself; DEQUANTIZE where an operator reads floats

Every value carries the order of its axes as stored. An operator reads its operands in the order it needs; what only
permutes axes changes the order that is noted, and moves nothing. A transpose is added where the orders differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.fx import Node

from codeq.graph.nodes import is_constant, layer_names, state_name
from codeq.graph.operators import CLAMPS
from export.program.program import LAYER_SCOPE, ReferenceProgram, constant_value
from export.tflite.file.graph import (
    NO_ACTIVATION,
    RELU,
    RELU6,
    RELU_N1_TO_1,
    Graph,
    Quantization,
    Tensor,
)
from export.tflite.file.operator_versions import OPERATORS
from export.tflite.per_input import depends_on_input, per_input_constant, repeat_per_input
from export.tflite.registry import CannotLower
from export.tflite.value import Target, Value
from export.tflite.weights.form import StoredForm, WeightForms
from export.tflite.weights.layout import Order, StoredLayout, identity
from export.tflite.weights.tensor import dequantize, weight_tensor

quantize = torch.ops.codeq.quantize.default

UINT8_TO_INT8 = -128
"""From a uint8 code or zero point to the int8 one of the same value."""
FUSED = {(0.0, float("inf")): RELU, (0.0, 6.0): RELU6, (-1.0, 1.0): RELU_N1_TO_1}
"""Clamps that an operator applies itself, by their limits."""


@dataclass(eq=False)
class Build:
    """The graph of one program, as far as it is lowered.

    Attributes:
        program: BatchNorms folded and canonicalized.
        channels_last_io: Inputs and outputs of three and four dimensions have their channels last.
        codes_io: Inputs and outputs are codes where the network quantizes them.
        forms: What weights may be stored as.
        graph: What was added so far.
        values: By node.
        weights: How each quantized weight lies in the file, by its name; the tensor has that name and `_quantized`.
        codes: The order of each quantized activation, by its name; the tensor has that name and `_quantized`.
        columns: For a flattened value that kept its channels last: what a linear layer's columns are to be.
        channel_orders: For an image whose channels are stored in another order than the network's: what they are split
            into, and the order of these parts as stored.
        parts: The results of an operator that has several.
        integer: The operators of the layers that compute on codes, by name.
        stored: The form of each quantized weight, by its name.
    """

    program: ReferenceProgram
    channels_last_io: bool = False
    codes_io: bool = False
    forms: WeightForms = field(default_factory=WeightForms)
    graph: Graph = field(default_factory=Graph)
    values: dict[Node, Value] = field(default_factory=dict)
    weights: dict[str, StoredLayout] = field(default_factory=dict)
    codes: dict[str, Order] = field(default_factory=dict)
    columns: dict[Node, StoredLayout] = field(default_factory=dict)
    channel_orders: dict[Node, tuple[tuple[int, ...], Order]] = field(default_factory=dict)
    parts: dict[Node, list[Value]] = field(default_factory=dict)
    integer: dict[str, str] = field(default_factory=dict)
    stored: dict[str, StoredForm] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.names = layer_names(self.program.exported.graph)
        self.absorbed: set[Node] = set()
        self._on_input: dict[Node, bool] = {}
        self.memo: dict[Any, Any] = {}
        self.tensor_names: set[str] = set()

    # Reading the program

    def shape(self, node: Node) -> tuple[int, ...]:
        """A node's shape in PyTorch's order, for a batch of 1."""
        return tuple(size_at_one(size) for size in node.meta["val"].shape)

    def open_axes(self, node: Node) -> tuple[int, ...]:
        """PyTorch's axes whose size depends on the batch."""
        return tuple(axis for axis, size in enumerate(node.meta["val"].shape) if not isinstance(size, int))

    def name(self, node: Node) -> str:
        """The layer's name, as in reports."""
        scope = node.meta.get("nn_module_stack", {}).get("codeq")
        if scope is not None and node.target is not quantize:
            return str(scope[0]).removeprefix(LAYER_SCOPE)
        return self.names.get(node, node.name)

    def constant(self, node: Any) -> np.ndarray | None:
        """What a constant node holds, PyTorch's order; None for another one."""
        value = constant_value(self.program, node) if isinstance(node, Node) else None
        return None if value is None else value.detach().numpy()

    def target(self, node: Node, *, integer: bool = False) -> Target:
        """What the result of a node's operator stands for.

        Args:
            node: The operator.
            integer: Its operands are codes. Where a quantizer follows, the result then has its grid.
        """
        last, activation = node, NO_ACTIVATION
        user = _only_user(node)
        if user is not None and user.target in CLAMPS and user.args[0] is node:
            limits = CLAMPS[user.target](user)
            if limits in FUSED:
                last, activation = user, FUSED[limits]
        user = _only_user(last)
        if integer and user is not None and user.target is quantize:
            return Target(user, activation, self.grid(user))
        return Target(last, activation)

    def grid(self, node: Node) -> Quantization:
        """The grid of a quantizer of activations, as int8."""
        scale, zero_point = self.constant(node.args[1]), self.constant(node.args[2])
        assert scale is not None
        assert zero_point is not None
        return Quantization(scale.reshape(1), int(zero_point) + UINT8_TO_INT8)

    # Operands

    def read(self, node: Any, order: Order | None = None) -> Value:
        """An operand as it is, codes or floats, in an order of axes; None takes the stored one."""
        value = self.values.get(node)
        if value is None:
            value = self.values[node] = self._constant_value(node)
        return value if order is None or value.order == order else self._reorder(node, value, order)

    def read_float(self, node: Any, order: Order | None = None) -> Value:
        """An operand as floats."""
        value = self.read(node, order)
        if value.quantization is None:
            return value
        key = ("float", value.tensor)
        if key not in self.memo:
            self.memo[key] = self.operator(
                "DEQUANTIZE", [value], self._like(value, dtype=np.float32), value.order, label="dequantized"
            )
        made: Value = self.memo[key]
        return made

    def number(self, value: np.ndarray, label: str = "constant") -> int:
        """A constant tensor; equal ones are one."""
        key = ("number", value.dtype.str, value.shape, value.tobytes())
        if key not in self.memo:
            self.memo[key] = self.graph.add_tensor(Tensor(self.unused_name(label), value.shape, value.dtype, value))
        return int(self.memo[key])

    def indices(self, values: Sequence[Any], label: str) -> int:
        """A constant tensor of int32: a shape, axes, paddings."""
        return self.number(np.array(values, np.int32), label)

    def is_quantized(self, *operands: Any) -> bool:
        """Whether operands are activations as codes."""
        return all(isinstance(node, Node) and self.read(node).quantization is not None for node in operands)

    def weight_name(self, node: Node) -> str:
        """The state that a constant is made of."""
        source = node
        while source.op != "placeholder" and source.all_input_nodes:
            source = source.all_input_nodes[0]
        name = state_name(self.program.exported, source) or node.name
        record = self.program.weights.get(name)
        return name if record is None else record.name

    # Results

    def operator(
        self,
        code: str,
        operands: Sequence[Value | int],
        shape: Tensor,
        order: Order,
        *,
        label: str = "",
        version: int | None = None,
        **options: Any,
    ) -> Value:
        """Add an operator with one result.

        Args:
            code: The schema's name.
            operands: Values, or numbers of tensors.
            shape: What its result is like: a tensor of the graph's kind, whose name is taken as a wish.
            order: Of the result's axes.
            label: Goes into the result's name.
            version: None takes the one for floats or int8 codes.
            options: By the schema's names.
        """
        name = self.unused_name(f"{shape.name}/{label}" if label else shape.name)
        result = Tensor(name, shape.shape, shape.dtype, None, shape.quantization, shape.open_batch)
        numbers = [operand.tensor if isinstance(operand, Value) else operand for operand in operands]
        if version is None:
            kind = OPERATORS[code]
            first = self.graph.tensors[numbers[0]].dtype
            known = kind.int8_version if np.int8 in (first, shape.dtype) else kind.float_version
            if code == "QUANTIZE" and first == np.float32:
                known = 1
            assert known is not None, f"{code} is not written for int8"
            version = known
        tensor = self.graph.add_tensor(result)
        self.graph.add_operator(code, version, numbers, tensor, options)
        return Value(tensor, order, shape.quantization)

    def result(
        self,
        node: Node,
        code: str,
        operands: Sequence[Value | int],
        order: Order,
        *,
        target: Target | None = None,
        quantization: Quantization | None = None,
        **options: Any,
    ) -> None:
        """Add the operator of a node and set its value.

        Args:
            node: Gives the shape.
            code, operands, order, options: As for `operator`.
            target: Where the result goes; None takes the node itself.
            quantization: Of a result that is codes without a quantizer: what moves values keeps their grid.
        """
        target = target or Target(node)
        grid = target.quantization or quantization
        label = target.node.name if grid is None or target.quantization is None else self.codes_name(target.node)
        like = self.like(node, order, grid, name=label)
        self.set(target.node, self.operator(code, operands, like, order, **options))

    def set(self, node: Node, value: Value) -> None:
        """Say what a node's value is; the one of a quantizer is noted by its name."""
        self.values[node] = value
        if node.target is quantize:
            clamp = node.args[0]
            if isinstance(clamp, Node) and clamp.target in CLAMPS and clamp not in self.values:
                self.absorbed.add(clamp)
            self.codes[self.codes_name(node).removesuffix("_quantized")] = value.order

    def codes_name(self, node: Node) -> str:
        """The name of a quantizer's tensor."""
        scope: str = node.meta["nn_module_stack"]["codeq"][0]
        return f"{scope.removeprefix(LAYER_SCOPE)}_quantized"

    def like(self, node: Node, order: Order, quantization: Quantization | None = None, *, name: str = "") -> Tensor:
        """A tensor of a node's shape, floats or codes."""
        shape, open_axes = self.shape(node), self.open_axes(node)
        dtype = np.dtype(np.float32 if quantization is None else np.int8)
        stored = tuple(shape[axis] for axis in order)
        return Tensor(
            name or node.name,
            stored,
            dtype,
            None,
            quantization,
            tuple(place for place, axis in enumerate(order) if axis in open_axes),
        )

    def reshape(self, value: Value, shape: Sequence[int], open_batch: tuple[int, ...], name: str) -> Value:
        """The same values in another shape, as stored. The result's order is the plain one.

        Raises:
            CannotLower: More than one size depends on the batch.
        """
        if len(open_batch) > 1:
            raise CannotLower("two of its sizes depend on the batch, which a .tflite file cannot hold")
        sizes = [-1 if axis in open_batch else size for axis, size in enumerate(shape)]
        source = self.graph.tensors[value.tensor]
        like = Tensor(name, tuple(shape), source.dtype, None, value.quantization, open_batch)
        return self.operator("RESHAPE", [value, self.indices(sizes, "shape")], like, identity(len(sizes)))

    def flat_order(self, shape: Sequence[int], order: Order) -> Order:
        """The axes of more than one value, in their stored order: where it ascends, nothing has moved."""
        return tuple(axis for axis in order if shape[axis] != 1)

    # Inside

    def _reorder(self, node: Node, value: Value, order: Order) -> Value:
        key = ("order", value.tensor, value.order, order)
        if key not in self.memo:
            like = self.like(node, order, value.quantization, name=f"{node.name}/transposed")
            shape = self.shape(node)
            # A batch of more than one would make the first axis count; it stays in front in every order.
            same = self.flat_order(shape, value.order) == self.flat_order(shape, order)
            batch_in_front = value.order[:1] == order[:1] == (0,)
            if same and batch_in_front and len(like.open_batch) <= 1:
                reshaped = self.reshape(value, like.shape, like.open_batch, like.name)
                self.memo[key] = Value(reshaped.tensor, order, value.quantization)
            else:
                permutation = self.indices([value.order.index(axis) for axis in order], "permutation")
                self.memo[key] = self.operator("TRANSPOSE", [value, permutation], like, order)
        made: Value = self.memo[key]
        return made

    def _like(self, value: Value, *, dtype: type) -> Tensor:
        source = self.graph.tensors[value.tensor]
        return Tensor(source.name, source.shape, np.dtype(dtype), None, None, source.open_batch)

    def _constant_value(self, node: Any) -> Value:
        assert isinstance(node, Node), node
        if not is_constant(node):
            repeated = per_input_constant(self, node)
            if repeated is not None and repeated.dtype == np.float32:
                return repeat_per_input(self, node, repeated)
            raise CannotLower(f"it reads {self.name(node)}, which differs among the inputs of a batch but not by them")
        if node.target is dequantize:
            shape = self.shape(node)
            layout = StoredLayout(shape, identity(len(shape)), shape)
            return Value(weight_tensor(self, node, layout), identity(len(shape)))
        if self.depends_on_codes(node):
            raise CannotLower("it reads what is computed from a quantized weight, which has no form here yet")
        value = self.constant(node)
        if value is None or value.dtype != np.float32:
            raise CannotLower("it reads a constant that is no float32 tensor")
        return Value(self.number(value, self.weight_name(node)), identity(value.ndim))

    def depends_on_input(self, node: Node) -> bool:
        """Whether a node's values are computed from those of an input."""
        return depends_on_input(node, self._on_input)

    def depends_on_codes(self, node: Node) -> bool:
        """Whether a constant is, or is computed from, a quantized weight."""
        key = ("codes", node)
        if key not in self.memo:
            self.memo[key] = node.target is dequantize or any(map(self.depends_on_codes, node.all_input_nodes))
        return bool(self.memo[key])

    def unused_name(self, name: str) -> str:
        """A name for a new tensor, with a number where it is taken."""
        candidate, number = name, 1
        while candidate in self.tensor_names:
            candidate, number = f"{name}_{number}", number + 1
        self.tensor_names.add(candidate)
        return candidate


def size_at_one(size: Any) -> int:
    """A size for a batch of 1."""
    if isinstance(size, int):
        return size
    expression = size.node.expr
    return int(expression.subs(dict.fromkeys(expression.free_symbols, 1)))


def _only_user(node: Node) -> Node | None:
    users = list(node.users)
    return users[0] if len(users) == 1 else None
