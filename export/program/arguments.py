"""Read the positional arguments of a node: those that are left out filled in, one number given for two axes doubled."""

from typing import Any

from torch.fx import Node

Pair = tuple[int, int]


def fill(node: Node, *defaults: Any) -> list[Any]:
    """Give as many arguments as there are defaults; the first ones, which a node always has, may be given as None.

    Examples:
        x, axis = fill(node, None, 0)
    """
    return [*node.args, *defaults[len(node.args) :]][: len(defaults)]


def pair(value: Any) -> Pair:
    """Give an argument for height and width, which PyTorch takes once for both axes or for each.

    Examples:
        >>> pair(3), pair([3]), pair([1, 2])
        ((3, 3), (3, 3), (1, 2))
    """
    if isinstance(value, int):
        return (value, value)
    sizes = [int(size) for size in value]
    return (sizes[0], sizes[0]) if len(sizes) == 1 else (sizes[0], sizes[1])
