"""Positional arguments of a node, those that are left out filled in."""

from typing import Any

from torch.fx import Node


def fill(node: Node, *defaults: Any) -> list[Any]:
    """As many arguments as there are defaults; the first ones, which a node always has, may be given as None.

    Example:
        x, axis = fill(node, None, 0)
    """
    return [*node.args, *defaults[len(node.args) :]][: len(defaults)]
