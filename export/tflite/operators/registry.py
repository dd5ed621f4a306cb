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
"""By operator overload; filled once export/tflite/operators/families.py is imported."""


def lowers(*targets: Any) -> Callable[[Lowering], Lowering]:
    """Register a function for operators; each has one."""

    def register(function: Lowering) -> Lowering:
        for target in targets:
            if target in LOWERINGS:
                raise ValueError(f"{target} has two lowerings")
            LOWERINGS[target] = function
        return function

    return register
