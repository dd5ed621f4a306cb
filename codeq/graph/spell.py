"""Write a node in other words: a function of torch is run on what the node reads, and its operators take its place.

    spell(exported, node, lambda x, groups: x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2))

The function sees shapes, no values. What it calls is recorded below autograd, where composite operators have become the
few that they are made of.
"""

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import Node
from torch.fx.node import map_arg
from torch.utils._python_dispatch import TorchDispatchMode, _pop_mode_temporarily
from torch.utils._pytree import tree_map

from codeq.graph.nodes import insert_call, replace_node

aten = torch.ops.aten

Words = Callable[..., Any]
RESHAPES = frozenset({aten.view.default, aten._unsafe_view.default, aten.reshape.default})
NO_VALUES = frozenset({aten.sym_size.int, aten.sym_stride.int, aten.sym_numel.default})
"""Operators that ask for a shape; the description of a tensor answers."""


def spell_all(exported: ExportedProgram, spellings: Mapping[Any, Words]) -> int:
    """Rewrite every node that has a spelling, in place; how many there were.

    Args:
        exported: The network.
        spellings: By operator: a function of its arguments. `None` as its result leaves the node as it is; as one of
            several results, where that one is read.
    """
    nodes = [node for node in exported.graph.nodes if node.target in spellings]
    return sum(spell(exported, node, spellings[node.target]) for node in nodes)


def spell(exported: ExportedProgram, node: Node, words: Words) -> bool:
    """Replace a node by what a function computes of its arguments; whether it was."""
    recorder = _Recorder(node)
    arguments, keywords = map_arg((node.args, node.kwargs), recorder.describe)
    with recorder, torch.no_grad():
        result = words(*arguments, **keywords)
    if result is None or (not isinstance(result, Tensor) and any(result[user.args[1]] is None for user in node.users)):
        recorder.take_back()
        return False
    if isinstance(result, Tensor):
        replace_node(exported, node, recorder.nodes[id(result)])
        return True
    for user in list(node.users):  # several results: each is taken by its number
        replace_node(exported, user, recorder.nodes[id(result[user.args[1]])])
    exported.graph.erase_node(node)
    return True


def word(operator: Any, *arguments: Any) -> Tensor:
    """Call an operator that PyTorch would take apart, as one that is written as it is; only inside a spelling."""
    with _pop_mode_temporarily() as recorder:  # it would record what PyTorch takes the operator apart into as well
        assert isinstance(recorder, _Recorder)
        result: Tensor = recorder.write(operator, arguments, {})
    return result


class _Recorder(TorchDispatchMode):
    """Adds a node in front of another one for each operator that is called."""

    def __init__(self, before: Node) -> None:
        super().__init__()
        self.before = before
        self.nodes: dict[int, Node] = {}
        self.kept: list[Any] = []  # an identity is of a value that lives
        self.written: list[Node] = []

    def take_back(self) -> None:
        """Remove what was written."""
        for node in reversed(self.written):
            node.graph.erase_node(node)

    def describe(self, node: Node) -> Any:
        value = node.meta["val"]
        for index, part in enumerate(value if isinstance(value, tuple | list) else ()):
            self._note(part, self._insert(operator.getitem, (node, index)))
        self._note(value, node)
        return value

    def _note(self, value: Any, node: Node) -> None:
        if isinstance(value, Tensor):
            self.nodes[id(value)] = node
            self.kept.append(value)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in NO_VALUES or func.namespace == "prim":
            return func(*args, **kwargs)
        if func in RESHAPES:
            func, args = aten.reshape.default, (args[0], _with_one_open(args[1]))
        return self.write(func, args, kwargs)

    def write(self, func: Any, args: Any, kwargs: Any) -> Any:
        new = self._insert(func, self._to_nodes(args), self._to_nodes(kwargs))
        value = new.meta["val"]
        if not isinstance(value, tuple | list):
            self._note(value, new)
            return value
        for index, part in enumerate(value):
            self._note(part, self._insert(operator.getitem, (new, index)))
        return value

    def _insert(self, target: Any, args: Any, kwargs: Any = None) -> Node:
        self.written.append(insert_call(self.before, target, args, kwargs))
        return self.written[-1]

    def _to_nodes(self, arguments: Any) -> Any:
        return tree_map(self._to_node, arguments)

    def _to_node(self, argument: Any) -> Any:
        if isinstance(argument, Tensor):
            return self.nodes[id(argument)]
        if isinstance(argument, torch.SymInt):
            return self._size(argument)
        return argument

    def _size(self, size: torch.SymInt) -> Node | int:
        for value in self.kept:
            for axis, other in enumerate(value.shape):
                if str(other) == str(size):
                    return self._insert(aten.sym_size.int, (self.nodes[id(value)], axis))
        raise AssertionError(f"{self.before}: no operand has the size {size}")


def _with_one_open(sizes: Any) -> list[Any]:
    """Leave the one open size of a reshape to be derived; sizes of a file are numbers but for it."""
    is_open = [not isinstance(size, int) for size in sizes]
    return [-1 if found and sum(is_open) == 1 else size for size, found in zip(sizes, is_open, strict=True)]
