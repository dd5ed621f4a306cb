"""Read what lowerings ask of a program: shapes, names, constants, grids, and what is computed from what."""

from typing import Any

import numpy as np
import torch
from torch.fx import Node

from codeq.graph.nodes import layer_names, state_name
from export.program.codes import UINT8_TO_INT8
from export.program.names import scope_name
from export.program.program import ReferenceProgram, WeightRecord, constant_value
from export.tflite.file.graph import Tensor, TensorGrid
from export.tflite.weights.layout import Order

PLAIN_TYPES = {torch.bool: np.bool_, torch.int64: np.int64, torch.int32: np.int32}
"""These types have values that are neither floats nor codes."""

quantize = torch.ops.codeq.quantize.default
dequantize = torch.ops.codeq.dequantize.default


class ProgramReader:
    """Answers about the nodes of one program, which must not change any more."""

    def __init__(self, program: ReferenceProgram) -> None:
        self.program = program
        self._names = layer_names(program.exported.graph)
        self._on_codes: dict[Node, bool] = {}

    def shape(self, node: Node) -> tuple[int, ...]:
        """Give a node's shape in PyTorch's order, for a batch of 1."""
        return tuple(_size_at_one(size) for size in node.meta["val"].shape)

    def open_axes(self, node: Node) -> tuple[int, ...]:
        """Give PyTorch's axes whose size depends on the batch."""
        return tuple(axis for axis, size in enumerate(node.meta["val"].shape) if not isinstance(size, int))

    def name(self, node: Node) -> str:
        """Give the layer's name, as in reports."""
        name = "" if node.target is quantize else scope_name(node)
        return name or self._names.get(node, node.name)

    def like(self, node: Node, order: Order, quantization: TensorGrid | None = None, *, name: str = "") -> Tensor:
        """Describe a tensor for a node's shape, its axes in some order: codes on a grid, else PyTorch's type."""
        shape, open_axes = self.shape(node), self.open_axes(node)
        kind = PLAIN_TYPES.get(node.meta["val"].dtype, np.float32)
        return Tensor(
            name or node.name,
            tuple(shape[axis] for axis in order),
            np.dtype(kind if quantization is None else np.int8),
            quantization=quantization,
            open_batch=tuple(place for place, axis in enumerate(order) if axis in open_axes),
        )

    def constant(self, node: Any) -> np.ndarray | None:
        """Give what a constant node holds, PyTorch's order; None for another node."""
        value = constant_value(self.program, node) if isinstance(node, Node) else None
        return None if value is None else value.detach().numpy()

    def grid(self, quantizer: Node) -> TensorGrid:
        """Give the grid of a quantizer of activations, as int8."""
        scale, zero_point = self.constant(quantizer.args[1]), self.constant(quantizer.args[2])
        assert scale is not None
        assert zero_point is not None
        return TensorGrid(scale.reshape(1), int(zero_point) + UINT8_TO_INT8)

    def weight_record(self, weight: Node) -> WeightRecord:
        """Find the record of the weight whose codes a dequantize reads."""
        state = state_name(self.program.exported, weight.args[0])  # type: ignore[arg-type]
        assert state is not None
        return self.program.weights[state]

    def weight_scale(self, weight: Node) -> np.ndarray:
        """Give the scale of the weight whose codes a dequantize reads, float32 `(1,)` or `(C,)`."""
        scale = self.constant(weight.args[1])
        assert scale is not None
        return scale.reshape(-1)

    def weight_name(self, node: Node) -> str:
        """Give the name of the parameter or buffer that a constant is made of."""
        source = node
        while source.op != "placeholder" and source.all_input_nodes:
            source = source.all_input_nodes[0]
        name = state_name(self.program.exported, source) or node.name
        record = self.program.weights.get(name)
        return name if record is None else record.name

    def depends_on_codes(self, node: Node) -> bool:
        """Tell whether a constant is, or is computed from, a quantized weight."""
        if node not in self._on_codes:
            self._on_codes[node] = node.target is dequantize or any(map(self.depends_on_codes, node.all_input_nodes))
        return self._on_codes[node]


def is_size(node: Node) -> bool:
    """Tell whether a node's value is a number, such as the batch size, and no tensor."""
    return not isinstance(node.meta.get("val"), torch.Tensor | tuple | list)


def _size_at_one(size: Any) -> int:
    if isinstance(size, int):
        return size
    expression = size.node.expr
    return int(expression.subs(dict.fromkeys(expression.free_symbols, 1)))
