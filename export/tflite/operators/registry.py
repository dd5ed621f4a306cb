"""The registry says which function lowers which aten operator. Every family of lowerings registers its own.

A lowering reads a node's operands from the `Builder`, adds operators to its graph and sets the node's value. It raises
`CannotLower` with the reason where the operator, as this node uses it, has no counterpart.
"""

from collections.abc import Callable
from typing import Any

from torch.fx import Node

from export.tflite.builder.builder import Builder

Lowering = Callable[[Builder, Node], None]

LOWERINGS: dict[Any, Lowering] = {}
"""It maps operator overloads to lowerings, and is filled once export/tflite/operators/families.py is imported."""
OF_ANY_TYPE: set[Any] = set()
"""Operators whose lowering takes care of the type that they compute; all others compute floats or codes."""


def lowers(*targets: Any, any_type: bool = False) -> Callable[[Lowering], Lowering]:
    """Register a function for operators; each has one.

    Args:
        targets: Operator overloads.
        any_type: They may compute truth values and integers.
    """

    def register(function: Lowering) -> Lowering:
        for target in targets:
            if target in LOWERINGS:
                raise ValueError(f"{target} has two lowerings")
            LOWERINGS[target] = function
            if any_type:
                OF_ANY_TYPE.add(target)
        return function

    return register
