"""A first convolution's image is rearranged (export/program/space_to_depth.py) by RESHAPE, TRANSPOSE, RESHAPE. Exact.

The order of its channels is free, as the convolution's weight is put in the same one. An image with channels first is
split into (channel, row, column) of a block, one with channels last into (row, column, channel): both are cheap moves.
"""

from dataclasses import replace

from torch.fx import Node

from export.program.space_to_depth import BLOCK, SPACE_TO_DEPTH
from export.tflite.builder.builder import Builder
from export.tflite.builder.value import JoinedAxes
from export.tflite.operators.registry import lowers
from export.tflite.weights.layout import CHANNELS_LAST, identity

BY_INPUT = {identity(4): ((2, 0, 1), (0, 2, 4, 1, 3, 5)), CHANNELS_LAST[4]: ((0, 1, 2), (0, 1, 3, 2, 4, 5))}
"""It maps the order of the image's axes to that of (row, column, channel) in a block, and its transpose."""


@lowers(SPACE_TO_DEPTH)
def lower_space_to_depth(build: Builder, node: Node) -> None:
    """Write the three, and note the order of the channels."""
    x = node.args[0]
    assert isinstance(x, Node)
    value = build.values.read(x)
    if value.order not in BY_INPUT:
        value = build.values.read(x, CHANNELS_LAST[4])
    channel_order, permutation = BY_INPUT[value.order]
    n, channels, height, width = build.program.shape(x)
    open_batch = build.program.open_axes(x)
    sizes = {0: (n,), 1: (channels,), 2: (height // BLOCK, BLOCK), 3: (width // BLOCK, BLOCK)}
    split = build.writer.reshape(
        value, [size for axis in value.order for size in sizes[axis]], open_batch, f"{node.name}/split"
    )
    like = build.writer.tensor(split)
    moved = build.writer.operator(
        "TRANSPOSE",
        [split, build.writer.indices(permutation, "permutation")],
        replace(like, name=f"{node.name}/blocks", shape=tuple(like.shape[axis] for axis in permutation)),
        identity(6),
    )
    joined = build.writer.reshape(moved, build.program.like(node, CHANNELS_LAST[4]).shape, open_batch, node.name)
    parts = JoinedAxes((BLOCK, BLOCK, channels), channel_order)
    build.values.set(node, replace(joined, order=CHANNELS_LAST[4], joined=parts))
