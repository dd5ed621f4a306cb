"""Tables of embeddings: GATHER of rows whose numbers are an input; exact."""

import torch
from torch.fx import Node

from export.tflite.build import Build
from export.tflite.registry import CannotLower, lowers
from export.tflite.value import Value
from export.tflite.weights.layout import identity

aten = torch.ops.aten


@lowers(aten.embedding.default)
def lower_embedding(build: Build, node: Node) -> None:
    """See the module's docstring. `padding_idx` and the like matter in training only."""
    table, rows = node.args[:2]
    assert isinstance(table, Node)
    assert isinstance(rows, Node)
    if build.depends_on_codes(table) or build.constant(table) is None:
        raise CannotLower("its table is computed")
    values = build.constant(table)
    assert values is not None
    if rows not in build.values:
        raise CannotLower("its rows are computed, which has no lowering; only rows that are an input have one")
    numbers = build.read(rows, identity(len(build.shape(rows))))
    operands: list[Value | int] = [build.number(values, build.weight_name(table)), numbers]
    build.result(node, "GATHER", operands, identity(len(build.shape(node))), axis=0, batchDims=0)
