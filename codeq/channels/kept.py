"""This class holds which entries of every axis of every tensor of a traced network have to stay.

It begins with none and only grows, until every rule of rules.py is content: the smallest set that they allow. An axis
of open size (the batch) always stays whole.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import Node

from codeq.graph.nodes import state_name


class KeptAxes:
    """Says what stays of a traced network.

    Args:
        exported: The network, plain, in eval mode.

    Attributes:
        tensors: Parameters and buffers by the placeholder's name.
        axes: By node: of each axis, which entries stay; None where its size is open.
        ties: Pairs of placeholders of one tensor, which the network has under two names.
        changed: Something grew since it was last set to False.
    """

    def __init__(self, exported: ExportedProgram) -> None:
        self.exported = exported
        self.tensors: dict[Node, Tensor] = {}
        self.names: dict[Node, str] = {}
        self.axes: dict[Node, list[Tensor | None]] = {}
        self.ties: list[tuple[Node, Node]] = []
        self.changed = False
        first: dict[tuple[int, torch.Size], Node] = {}
        known = {**exported.constants, **exported.state_dict}
        for node in exported.graph.nodes:
            name = state_name(exported, node)
            if name is not None and isinstance(known.get(name), Tensor):
                tensor = self.tensors[node] = known[name]
                self.names[node] = name
                one = first.setdefault((tensor.data_ptr(), tensor.shape), node) if tensor.numel() else node
                self.ties += [(one, node)] if one is not node else []
            value = node.meta.get("val")
            if isinstance(value, Tensor):
                self.axes[node] = [self.none_of(size) if isinstance(size, int) else None for size in value.shape]

    def none_of(self, size: int) -> Tensor:
        """Give an axis of which nothing stays."""
        return torch.zeros(size, dtype=torch.bool)

    def all_of(self, size: int) -> Tensor:
        """Give an axis of which all stays."""
        return torch.ones(size, dtype=torch.bool)

    def of(self, node: Any, axis: int) -> Tensor | None:
        """Give what stays of an axis; None where its size is open."""
        found = self.axes.get(node)
        return None if found is None else found[axis]

    def grow(self, node: Any, axis: int, mask: Tensor | None) -> None:
        """Let some entries of an axis stay."""
        mine = self.of(node, axis)
        if mine is not None and mask is not None and bool((mask > mine).any()):
            torch.maximum(mine, mask, out=mine)
            self.changed = True

    def whole(self, node: Any, axes: Sequence[int] | None = None) -> None:
        """Let some axes of a tensor stay as they are; None is all of them."""
        for axis, mine in enumerate(self.axes.get(node, ())):
            if mine is not None and (axes is None or axis in axes or axis - len(self.axes[node]) in axes):
                self.grow(node, axis, self.all_of(len(mine)))

    def link(self, one: Any, axis: int, other: Any, other_axis: int) -> None:
        """Let two axes keep the same entries. One of them open, or their sizes different: both stay whole."""
        first, second = self.of(one, axis), self.of(other, other_axis)
        if first is None or second is None or len(first) != len(second):
            self.whole(one, (axis,))
            self.whole(other, (other_axis,))
            return
        self.grow(one, axis, second)
        self.grow(other, other_axis, first)

    def rank(self, node: Any) -> int:
        """Give the number of axes."""
        return len(self.axes[node])
