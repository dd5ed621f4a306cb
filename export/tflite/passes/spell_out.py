"""Write operators that are another spelling of others in the words that the lowerings know. Exact.

What rules look at is spelled out before (codeq/graph/canonical.py).

max_pool1d(x, ...) ->  squeeze(max_pool2d(unsqueeze(x, 2), ...)): a sequence is an image of one row
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.fx import Node

from codeq.graph.nodes import insert_call, replace_node

aten = torch.ops.aten


def spell_out(exported: ExportedProgram) -> int:
    """Rewrite what has a spelling in `SPELLINGS`, in place; how many nodes there were."""
    nodes = [node for node in exported.graph.nodes if node.target in SPELLINGS]
    for node in nodes:
        replace_node(exported, node, SPELLINGS[node.target](node))
    return len(nodes)


def _pool_of_a_row(target: Any) -> Callable[[Node], Node]:
    """Make a spelling of a pool of one dimension; its numbers are those of the row, along which nothing is pooled."""

    def spell(node: Node) -> Node:
        x, *numbers = node.args
        image = insert_call(node, aten.unsqueeze.default, (x, 2))
        pooled = insert_call(node, target, (image, *map(_of_a_row(target), range(len(numbers)), numbers)))
        return insert_call(node, aten.squeeze.dim, (pooled, 2))

    return spell


def _of_a_row(target: Any) -> Callable[[int, Any], Any]:
    neutral = {
        aten.max_pool2d.default: (1, 1, 0, 1),
        aten.avg_pool2d.default: (1, 1, 0),
        aten.adaptive_avg_pool2d.default: (1,),
    }[target]

    def number(place: int, value: Any) -> Any:
        if place >= len(neutral):
            return value  # ceil_mode, count_include_pad
        given = list(value) if isinstance(value, list | tuple) else [value]
        return [neutral[place], *given] if given else given

    return number


SPELLINGS: Mapping[Any, Callable[[Node], Node]] = {
    aten.max_pool1d.default: _pool_of_a_row(aten.max_pool2d.default),
    aten.avg_pool1d.default: _pool_of_a_row(aten.avg_pool2d.default),
    aten.adaptive_avg_pool1d.default: _pool_of_a_row(aten.adaptive_avg_pool2d.default),
}
