"""Indexing with constant numbers gathers: values and codes move as they are. Exact.

x[:, numbers]                    ->  GATHER along that axis
x[arange(batch), numbers]        ->  GATHER along axis 1, as every input keeps its place in the batch
"""

from typing import Any

import numpy as np
import torch
from torch.fx import Node

from codeq.graph.nodes import depends_on_input
from export.tflite.builder.builder import Builder
from export.tflite.builder.per_input import evaluate_for_batch
from export.tflite.builder.program_reader import ProgramReader
from export.tflite.builder.refusal import CannotLower
from export.tflite.operators.registry import lowers
from export.tflite.weights.layout import identity

aten = torch.ops.aten


@lowers(aten.index_select.default, any_type=True)
def lower_index_select(build: Builder, node: Node) -> None:
    """Write GATHER along the axis."""
    x, axis, numbers = node.args
    _gather(build, node, x, int(axis), _numbers(build.program, numbers))  # type: ignore[arg-type]


@lowers(aten.index.Tensor, any_type=True)
def lower_index(build: Builder, node: Node) -> None:
    """Write GATHER along the one axis that is indexed; the batch may be indexed by its own positions."""
    x, indices = node.args
    assert isinstance(indices, list | tuple)
    places = [axis for axis, index in enumerate(indices) if index is not None]
    if len(places) == 2 and places[0] == 0 and _is_range_of_batch(build.program, indices[0]):
        numbers = _numbers(build.program, indices[1])
        if places[1] != 1 or (numbers.ndim and numbers.shape[0] != 1):
            raise CannotLower("it indexes the batch and another axis in a way that has no counterpart")
        _gather(build, node, x, 1, numbers[0] if numbers.ndim else numbers)
        return
    if len(places) != 1:
        raise CannotLower("it indexes several axes at once")
    _gather(build, node, x, places[0], _numbers(build.program, indices[places[0]]))


def _gather(build: Builder, node: Node, x: Any, axis: int, numbers: np.ndarray) -> None:
    shape = build.program.shape(x)
    axis %= len(shape)
    if axis in build.program.open_axes(x):
        raise CannotLower("it indexes the batch")
    if numbers.dtype == bool:
        (numbers,) = numbers.nonzero()
    rows = np.where(numbers < 0, numbers + shape[axis], numbers).astype(np.int32)
    value = build.values.read(x, identity(len(shape)))
    order = identity(len(build.program.shape(node)))
    build.values.result(
        node,
        "GATHER",
        [value, build.writer.number(rows, "rows")],
        order,
        quantization=value.quantization,
        axis=axis,
        batchDims=0,
    )


def _numbers(program: ProgramReader, index: Any) -> np.ndarray:
    numbers = program.constant(index)
    if numbers is None:
        raise CannotLower("it indexes with computed numbers")
    return numbers


def _is_range_of_batch(program: ProgramReader, index: Any) -> bool:
    """Tell whether an index is 0, 1, ... along the batch, whatever its size."""
    if not isinstance(index, Node) or program.open_axes(index) != (0,) or depends_on_input(index):
        return False
    return all(
        torch.equal(evaluate_for_batch(program, index, batch).flatten(), torch.arange(batch)) for batch in (1, 3)
    )
