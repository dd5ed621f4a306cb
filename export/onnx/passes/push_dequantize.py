"""Let operators that only move or select values work on uint8 codes: push DequantizeLinear behind them. Exact.

    Before: codes -> DequantizeLinear -> Slice -> ...        After: codes -> Slice -> DequantizeLinear -> ...

A quarter of the bytes move, and the next operator finds its DequantizeLinear where its integer kernel needs it.
A padding with 0.0 pads with the zero point; a concatenation is pushed where all parts share one grid. A bilinear Resize
is left between codes: onnxruntime 1.31's on uint8 cuts fractions off, 0.42 of a step on average, and takes 4.8 times as
long as the float one with both its quantizers (64 channels of 64 x 64 doubled, one thread).
"""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from export.program.names import codes_name

MOVES = {
    "Concat": None,
    "DepthToSpace": 1,
    "Expand": 1,
    "Flatten": 1,
    "Gather": 1,
    "GatherND": 1,
    "Identity": 1,
    "MaxPool": 1,
    "Pad": 1,
    "ReduceMax": 1,
    "ReduceMin": 1,
    "Reshape": 1,
    "Resize": 1,
    "Slice": 1,
    "Split": 1,
    "Squeeze": 1,
    "Transpose": 1,
    "Unsqueeze": 1,
}
"""Operators and how many of their inputs are data (None: all); the others are shapes, axes and the like. SpaceToDepth
takes uint8 only in the newest onnxruntime."""
PAD_VALUE = 2


def push_dequantize(model: ir.Model) -> int:
    """Push every uint8 DequantizeLinear as far as it goes, in place; returns how many operators it passed."""
    pushed = 0
    names = {value.name for node in model.graph for value in node.outputs}
    for node in list(model.graph):
        if node.op_type in MOVES and node.domain == "" and _push(model.graph, node, names):
            pushed += 1
    return pushed


def _push(graph: ir.Graph, node: ir.Node, names: set[str | None]) -> bool:
    data = node.inputs[: MOVES[node.op_type]]
    sources = [value.producer() if value is not None else None for value in data]
    if not sources or not all(source is not None and is_activation(source) for source in sources):
        return False
    grid = sources[0].inputs[1:]  # type: ignore[union-attr]
    if any(not same_grid(source.inputs[1:], grid) for source in sources[1:]):  # type: ignore[union-attr]
        return False
    if node.op_type == "Resize" and node.attributes.get_string("mode", "nearest") != "nearest":
        return False
    if node.op_type == "MaxPool" and len(node.outputs) > 1 and node.outputs[1].uses():
        return False
    inputs = list(node.inputs)
    inputs[: len(data)] = [source.inputs[0] for source in sources]  # type: ignore[union-attr]
    if node.op_type == "Pad" and node.attributes.get_string("mode", "constant") == "constant":
        given = inputs[PAD_VALUE] if len(inputs) > PAD_VALUE else None
        if given is not None and (given.const_value is None or np.any(given.const_value.numpy() != 0)):
            return False
        inputs = [*inputs, None][: PAD_VALUE + 1] + inputs[PAD_VALUE + 1 :]
        inputs[PAD_VALUE] = grid[1]
    moved = ir.Node("", node.op_type, inputs, node.attributes.values(), num_outputs=len(node.outputs), name=node.name)
    new_values, nodes = [], [moved]
    for old, codes in zip(node.outputs, moved.outputs, strict=True):
        codes.name, codes.shape, codes.type = codes_name(str(old.name)), old.shape, ir.TensorType(ir.DataType.UINT8)
        if codes.name in names:  # the result is quantized once more, on a grid of its own
            codes.name = codes_name(f"{old.name}_moved")
        names.add(codes.name)
        nodes.append(ir.Node("", "DequantizeLinear", [codes, *grid]))
        new_values.append(nodes[-1].outputs[0])
    ir.convenience.replace_nodes_and_values(graph, node, [node], nodes, node.outputs, new_values)
    return True


def is_activation(node: ir.Node) -> bool:
    """Tell whether a node dequantizes codes of an activation."""
    if node.op_type != "DequantizeLinear" or len(node.inputs) < 3 or node.inputs[2] is None:
        return False
    return node.inputs[2].dtype is ir.DataType.UINT8


def same_grid(one: Sequence[ir.Value | None], other: Sequence[ir.Value | None]) -> bool:
    """Tell whether two scales and zero points are the same."""
    return all(a is b or _equal(a, b) for a, b in zip(one, other, strict=True))


def _equal(one: ir.Value | None, other: ir.Value | None) -> bool:
    if one is None or other is None or one.const_value is None or other.const_value is None:
        return False
    return bool(np.array_equal(one.const_value.numpy(), other.const_value.numpy()))
