"""Find what draws random numbers in a traced network: dropout that is always on, noise that is added."""

import torch
from torch.export import ExportedProgram
from torch.fx import Node

from codeq.graph.nodes import layer_names

SWITCHES = {"train": False, "training": False, "dropout_p": 0.0}
"""Arguments that decide whether an operator draws any, and the value with which it does not."""


def random_layers(exported: ExportedProgram) -> tuple[str, ...]:
    """Name the operators that draw random numbers, in the graph's order."""
    return tuple(name for node, name in layer_names(exported.graph).items() if _is_random(node))


def _is_random(node: Node) -> bool:
    if torch.Tag.nondeterministic_seeded not in getattr(node.target, "tags", ()):
        return False
    for position, argument in enumerate(node.target._schema.arguments):  # type: ignore[union-attr]
        if argument.name in SWITCHES:
            given = node.args[position] if position < len(node.args) else argument.default_value
            return bool(node.kwargs.get(argument.name, given) != SWITCHES[argument.name])
    return True
