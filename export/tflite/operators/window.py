"""The window of a convolution or a pool is padded in one of the two forms that LiteRT has. Exact.

SAME pads ceil(size / stride) outputs' worth of zeros, the odd one behind; everything else is a PAD and VALID.
Source: TensorFlow's documentation of tf.nn, "Notes on padding". A window that ends before the last values (a stride
that does not divide the size) needs no padding behind; PyTorch's there is never read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import Node

from export.program.arguments import Pair
from export.tflite.file.graph import SAME, VALID

aten = torch.ops.aten


@dataclass(frozen=True)
class Padding:
    """Says how a window is padded: `mode` is SAME or VALID, `zeros` go before and after height and width first."""

    mode: int
    zeros: tuple[Pair, Pair]

    @property
    def needs_pad(self) -> bool:
        return any(any(axis) for axis in self.zeros)


def plan_padding(
    sizes: Sequence[int], kernel: Pair, stride: Pair, dilation: Pair, zeros: tuple[Pair, Pair], outputs: Sequence[int]
) -> Padding:
    """Decide how a window's zeros are written.

    Args:
        sizes: Height and width of the input.
        kernel, stride, dilation: Of the window.
        zeros: Before and after height and width, as PyTorch pads.
        outputs: Height and width of the output.
    """
    same = True
    needed = []
    for size, width, step, dilate, (before, after), wanted in zip(
        sizes, kernel, stride, dilation, zeros, outputs, strict=True
    ):
        read = (wanted - 1) * step + (width - 1) * dilate + 1
        behind = min(after, max(0, read - size - before))
        needed.append((before, behind))
        total = max(0, read - size)
        same &= wanted == -(-size // step) and (before, behind) == (total // 2, total - total // 2)
    none = ((0, 0), (0, 0))
    if not any(any(axis) for axis in needed):
        return Padding(VALID, none)
    return Padding(SAME, none) if same else Padding(VALID, (needed[0], needed[1]))


def zero_padding(node: Any) -> tuple[Pair, Pair] | None:
    """Find the zeros before and after height and width (or length) that a padding node adds; None for another node."""
    if not isinstance(node, Node) or node.target not in (aten.constant_pad_nd.default, aten.pad.default):
        return None
    mode = "constant" if node.target is aten.constant_pad_nd.default or len(node.args) < 3 else node.args[2]
    place = 2 if node.target is aten.constant_pad_nd.default else 3
    value = node.args[place] if len(node.args) > place else 0
    amounts = [int(amount) for amount in node.args[1]]  # type: ignore[union-attr,arg-type]
    rank = node.meta["val"].ndim
    if mode != "constant" or value or any(amounts[4 if rank == 4 else 2 :]) or min(amounts, default=0) < 0:
        return None
    if rank == 3:
        amounts = [*amounts[:2], 0, 0]
    amounts += [0] * (4 - len(amounts))
    return (amounts[2], amounts[3]), (amounts[0], amounts[1])
