"""Recurrent layers are written out step by step, on floats: PyTorch's sums in another order. Weights stay float32.

    gru     r, z = sigmoid(W x + U h);  n = tanh(W x + r * (U h));  h' = n + z * (h - n)
    lstm    i, f, o = sigmoid(W x + U h);  g = tanh(W x + U h);  c' = f * c + i * g;  h' = o * tanh(c')
    rnn     h' = tanh(W x + U h), or relu

Source: torch.nn.GRU, LSTM and RNN. W x of all steps is one product. Sequences have one length, the example's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.fx import Node

from export.tflite.builder.builder import Builder
from export.tflite.builder.refusal import CannotLower
from export.tflite.builder.value import Value
from export.tflite.file.graph import Tensor
from export.tflite.operators.registry import lowers
from export.tflite.weights.layout import identity

aten = torch.ops.aten

GATES: dict[Any, int] = {aten.gru.input: 3, aten.lstm.input: 4, aten.rnn_tanh.input: 1, aten.rnn_relu.input: 1}
ZEROS = frozenset({aten.zeros.default, aten.new_zeros.default, aten.zeros_like.default})
MAX_STEPS = 1024
"""All layers and directions together have at most so many steps; each is a dozen operators."""

PLAIN = identity(2)


@lowers(*GATES)
def lower_recurrent(build: Builder, node: Node) -> None:
    """Write layers and directions one after the other; the states start at zero."""
    arguments: Any = node.args
    x, states, parameters, has_biases, layers, _, _, bidirectional, batch_first = arguments
    lstm = node.target is aten.lstm.input
    for state in states if lstm else [states]:
        if not isinstance(state, Node) or state.target not in ZEROS:
            raise CannotLower("its first state is given; only a state of zeros can be written")
    directions = 2 if bidirectional else 1
    tensors = [build.program.constant(parameter) for parameter in parameters]
    per_cell = len(tensors) // (layers * directions)
    if per_cell != (4 if has_biases else 2):
        raise CannotLower("its outputs are projected (proj_size)")
    length = build.program.shape(x)[1 if batch_first else 0]
    steps = length * layers * directions
    if steps > MAX_STEPS:
        raise CannotLower(f"it would be written out in {steps} steps, more than {MAX_STEPS}")

    order = (0, 1, 2) if batch_first else (1, 0, 2)
    sequence = build.values.read_float(x, order)
    final: list[tuple[Value, ...]] = []
    for layer in range(layers):
        outputs: list[list[Value]] = []
        for direction in range(directions):
            first = (layer * directions + direction) * per_cell
            name = f"{node.name}/{layer}{'r' if direction else ''}"
            cell = _cell(build, node, tensors[first : first + per_cell], name)
            places = range(length - 1, -1, -1) if direction else range(length)
            made, last = _run(build, cell, sequence, places, batch_axis=0)
            outputs.append(made[::-1] if direction else made)
            final.append(last)
        joined = [_join(build, list(step), f"{node.name}/{layer}/output", 1) for step in zip(*outputs, strict=True)]
        rows = [_spread(build, value, (1, 1, -1), 0, f"{node.name}/{layer}/row") for value in joined]
        sequence = _join(build, rows, f"{node.name}/{layer}", 1)
    states = [
        _join(build, [_spread(build, value, (1, 1, -1), 1, f"{node.name}/state") for value in kind], node.name, 0)
        for kind in zip(*final, strict=True)
    ]
    build.values.set_parts(node, [Value(sequence.tensor, order), *states])


@dataclass(frozen=True, eq=False)
class _Cell:
    """Holds one direction of one layer: weights by gate group, `(outputs, inputs)` and `(outputs,)`."""

    target: Any
    name: str
    size: int
    inputs: tuple[np.ndarray, np.ndarray]
    state: tuple[np.ndarray, np.ndarray]


def _cell(build: Builder, node: Node, tensors: Sequence[np.ndarray | None], name: str) -> _Cell:
    found = [tensor for tensor in tensors if tensor is not None]
    if len(found) < len(tensors):
        raise CannotLower("its weights depend on the input")
    gates = found[0].shape[0]
    zeros = np.zeros(gates, np.float32)
    bias = (found[2], found[3]) if len(found) == 4 else (zeros, zeros)
    return _Cell(node.target, name, gates // GATES[node.target], (found[0], bias[0]), (found[1], bias[1]))


def _run(
    build: Builder, cell: _Cell, sequence: Value, places: Sequence[int], *, batch_axis: int
) -> tuple[list[Value], tuple[Value, ...]]:
    """Write the steps; the outputs in the order of `places`, and the final state (and cell state)."""
    n, length, width = build.writer.tensor(sequence).shape
    gates = cell.inputs[0].shape[0]
    flat = build.writer.reshape(sequence, (n * length, width), (batch_axis,), f"{cell.name}/flat")
    product = _linear(build, flat, *cell.inputs, f"{cell.name}/inputs", n * length)
    steps = build.writer.reshape(product, (n, length, gates), (batch_axis,), f"{cell.name}/steps")
    outputs: list[Value] = []
    h: Value | None = None
    c: Value | None = None
    for place in places:
        x = _slice_step(build, steps, place, gates, cell.name)
        h, c = _step(build, cell, x, h, c)
        outputs.append(h)
    assert h is not None
    return outputs, (h,) if c is None else (h, c)


def _step(build: Builder, cell: _Cell, x: Value, h: Value | None, c: Value | None) -> tuple[Value, Value | None]:
    size, name = cell.size, cell.name
    if h is None:  # of a state of zeros the bias is left
        u: Value | int = build.writer.number(cell.state[1].reshape(1, -1), f"{name}/state_bias")
    else:
        u = _linear(build, h, *cell.state, f"{name}/state", 1)

    def part(value: Value | int, first: int, last: int) -> Value | int:
        if isinstance(value, Value):
            return _slice_columns(build, value, first * size, last * size, name)
        data = build.writer.tensor(value).data
        assert data is not None
        return build.writer.number(np.ascontiguousarray(data[:, first * size : last * size]), f"{name}/state_bias")

    def apply(code: str, *operands: Value | int) -> Value:
        like = next(build.writer.tensor(value) for value in operands if isinstance(value, Value))
        options: dict[str, Any] = {} if code in ("LOGISTIC", "TANH", "RELU") else {"fusedActivationFunction": 0}
        named = Tensor(f"{name}/{code.lower()}", like.shape, like.dtype, None, None, like.open_batch)
        return build.writer.operator(code, operands, named, PLAIN, **options)

    if cell.target is aten.gru.input:
        gates = apply("LOGISTIC", apply("ADD", part(x, 0, 2), part(u, 0, 2)))
        reset, update = part(gates, 0, 1), part(gates, 1, 2)
        new = apply("TANH", apply("ADD", part(x, 2, 3), apply("MUL", reset, part(u, 2, 3))))
        if h is None:  # n + z * (0 - n)
            return apply("SUB", new, apply("MUL", update, new)), None
        return apply("ADD", new, apply("MUL", update, apply("SUB", h, new))), None
    total = apply("ADD", x, u)
    if cell.target is aten.lstm.input:
        keep = apply("LOGISTIC", part(total, 0, 2))
        taken = apply("MUL", part(keep, 0, 1), apply("TANH", part(total, 2, 3)))
        new_c = taken if c is None else apply("ADD", apply("MUL", part(keep, 1, 2), c), taken)
        return apply("MUL", apply("LOGISTIC", part(total, 3, 4)), apply("TANH", new_c)), new_c
    return apply("TANH" if cell.target is aten.rnn_tanh.input else "RELU", total), None


def _linear(build: Builder, x: Value, weight: np.ndarray, bias: np.ndarray, name: str, rows: int) -> Value:
    like = Tensor(name, (rows, weight.shape[0]), np.dtype(np.float32), None, None, (0,))
    operands: list[Value | int] = [
        x,
        build.writer.number(weight, f"{name}/weight"),
        build.writer.number(bias, f"{name}/bias"),
    ]
    return build.writer.operator("FULLY_CONNECTED", operands, like, PLAIN, fusedActivationFunction=0, keepNumDims=False)


def _slice_step(build: Builder, steps: Value, place: int, gates: int, name: str) -> Value:
    like = Tensor(f"{name}/step", (1, gates), np.dtype(np.float32), None, None, (0,))
    return _strided(build, steps, (0, place, 0), (0, place + 1, 0), 0b101, 0b010, like)


def _slice_columns(build: Builder, value: Value, first: int, last: int, name: str) -> Value:
    like = Tensor(f"{name}/gate", (1, last - first), np.dtype(np.float32), None, None, (0,))
    if first == 0 and last == build.writer.tensor(value).shape[1]:
        return value
    return _strided(build, value, (0, first), (0, last), 0b01, 0, like)


def _strided(
    build: Builder, value: Value, begin: Sequence[int], end: Sequence[int], everything: int, shrink: int, like: Tensor
) -> Value:
    limits = [
        build.writer.indices(begin, "begin"),
        build.writer.indices(end, "end"),
        build.writer.indices([1] * len(begin), "step"),
    ]
    options: dict[str, Any] = {"beginMask": everything, "endMask": everything, "shrinkAxisMask": shrink}
    return build.writer.operator("STRIDED_SLICE", [value, *limits], like, PLAIN, **options)


def _spread(build: Builder, value: Value, shape: tuple[int, ...], batch: int, name: str) -> Value:
    """Give a state `(N, H)` three dimensions, the batch on axis `batch`."""
    width = build.writer.tensor(value).shape[1]
    return build.writer.reshape(value, (*shape[:-1], width), (batch,), name)


def _join(build: Builder, values: list[Value], name: str, axis: int) -> Value:
    if len(values) == 1:
        return values[0]
    tensors = [build.writer.tensor(value) for value in values]
    shape = list(tensors[0].shape)
    shape[axis] = sum(tensor.shape[axis] for tensor in tensors)
    like = Tensor(name, tuple(shape), tensors[0].dtype, None, None, tensors[0].open_batch)
    return build.writer.operator(
        "CONCATENATION", values, like, identity(len(shape)), axis=axis, fusedActivationFunction=0
    )
