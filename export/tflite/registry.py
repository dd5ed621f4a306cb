"""Which function lowers which aten operator. One file per family in export/tflite/operators/ registers its own.

A lowering reads a node's operands from the `Build`, adds operators to its graph and sets the node's value. It raises
`CannotLower` with the reason where the operator, as this node uses it, has no counterpart.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch.fx import Node

if TYPE_CHECKING:
    from export.tflite.build import Build

Lowering = Callable[["Build", Node], None]

LOWERINGS: dict[Any, Lowering] = {}
"""By operator overload."""


class CannotLower(Exception):
    """Why a node has no counterpart in LiteRT."""


def lowers(*targets: Any) -> Callable[[Lowering], Lowering]:
    """Register a function for operators; each has one."""

    def register(function: Lowering) -> Lowering:
        for target in targets:
            if target in LOWERINGS:
                raise ValueError(f"{target} has two lowerings")
            LOWERINGS[target] = function
        return function

    return register
