"""An embedding gathers rows of a table whose numbers are an input. Exact."""

import torch
from torch.fx import Node

from export.tflite.builder.builder import Builder
from export.tflite.builder.refusal import CannotLower
from export.tflite.builder.value import Value
from export.tflite.operators.registry import lowers
from export.tflite.weights.layout import identity

aten = torch.ops.aten


@lowers(aten.embedding.default)
def lower_embedding(build: Builder, node: Node) -> None:
    """Write GATHER. `padding_idx` and the like matter in training only."""
    table, rows = node.args[:2]
    assert isinstance(table, Node)
    assert isinstance(rows, Node)
    if build.program.depends_on_codes(table) or build.program.constant(table) is None:
        raise CannotLower("its table is computed")
    values = build.program.constant(table)
    assert values is not None
    if rows not in build.values:
        raise CannotLower("its rows are computed, which has no lowering; only rows that are an input have one")
    numbers = build.values.read(rows, identity(len(build.program.shape(rows))))
    operands: list[Value | int] = [build.writer.number(values, build.program.weight_name(table)), numbers]
    build.values.result(node, "GATHER", operands, identity(len(build.program.shape(node))), axis=0, batchDims=0)
