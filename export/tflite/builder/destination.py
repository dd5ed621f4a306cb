"""Decide where an operator's result goes: into its own node, or into the clamp and the quantizer that follow it.

conv -> relu6 -> quantize     becomes     CONV_2D with RELU6 and the quantizer's grid
"""

from dataclasses import dataclass

from torch.fx import Node

from codeq.graph.operators import CLAMPS
from export.tflite.builder.program_reader import ProgramReader, quantize
from export.tflite.file.graph import NO_ACTIVATION, RELU, RELU6, RELU_N1_TO_1, TensorGrid

FUSED_CLAMPS = {(0.0, float("inf")): RELU, (0.0, 6.0): RELU6, (-1.0, 1.0): RELU_N1_TO_1}
"""Clamps that an operator applies itself, by their limits."""


@dataclass(frozen=True, eq=False)
class Destination:
    """Says what an operator's result stands for: a node, the clamp that the operator applies, the grid of its codes."""

    node: Node
    activation: int = NO_ACTIVATION
    quantization: TensorGrid | None = None


def find_destination(program: ProgramReader, node: Node, *, integer: bool = False) -> Destination:
    """Find what the result of a node's operator stands for.

    Args:
        program: That the node is of.
        node: The operator.
        integer: Its operands are codes. Where a quantizer follows, the result then has its grid.
    """
    last, activation = node, NO_ACTIVATION
    user = _only_user(node)
    if user is not None and user.target in CLAMPS and user.args[0] is node:
        limits = CLAMPS[user.target](user)
        if limits in FUSED_CLAMPS:
            last, activation = user, FUSED_CLAMPS[limits]
    user = _only_user(last)
    if integer and user is not None and user.target is quantize:
        return Destination(user, activation, program.grid(user))
    return Destination(last, activation)


def _only_user(node: Node) -> Node | None:
    users = list(node.users)
    return users[0] if len(users) == 1 else None
