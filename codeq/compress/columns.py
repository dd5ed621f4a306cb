"""This module sees every layer as a matrix: weights as rows, what a layer reads as columns, one matrix per group.

    conv(x, weight)[n, o, p] = sum over c of matrix[g, o, c] * columns[g, (n, p), c]

A transposed convolution is the convolution of its input with zeros between, by the kernel mirrored.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx import Node

aten = torch.ops.aten

FEW_INPUTS = 32
"""A layer whose outputs each read fewer values, above all a depthwise convolution, stays at 8 bits by itself: rounding
has nothing to make up with, and such layers are a few percent of a network's weights."""


@dataclass(frozen=True)
class Layer:
    """Describes an operator with a weight: its windows by their spatial axes, none for a linear layer."""

    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[tuple[int, int], ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1
    transposed: bool = False

    @property
    def channel_axis(self) -> int:
        """Return the axis of the output channels in the operator's result."""
        return 1 if self.kernel else -1

    def matrix(self, weight: Tensor) -> Tensor:
        """Bring a weight into the form `(groups, rows, columns)`, rows being output channels."""
        if not self.kernel and not self.transposed:
            return weight[None]
        if self.transposed:  # (in, out / groups, *kernel)
            axes = tuple(range(2, weight.ndim))
            split = weight.flip(axes).unflatten(0, (self.groups, -1)).transpose(1, 2)
            return split.flatten(2)
        return weight.unflatten(0, (self.groups, -1)).flatten(2)

    def restore(self, matrix: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Invert `matrix` for a weight of `shape`."""
        if not self.kernel and not self.transposed:
            return matrix[0]
        if self.transposed:
            split = matrix.unflatten(2, (shape[0] // self.groups, *shape[2:])).transpose(1, 2)
            return split.flatten(0, 1).flip(tuple(range(2, len(shape)))).contiguous()
        return matrix.reshape(shape)

    def per_row(self, values: Tensor) -> Tensor:
        """Spread a value per output channel of the weight, `(C,)`, over the rows of `matrix`: `(groups, rows)`."""
        return values.expand(self.groups, -1) if self.transposed else values.unflatten(0, (self.groups, -1))

    def columns(self, x: Tensor, positions: int, generator: torch.Generator) -> Tensor:
        """Gather what the layer multiplies with its matrix: `(groups, samples, columns)`.

        Args:
            x: What it reads.
            positions: At most so many places of each input are taken, the same for the whole batch.
            generator: Chooses them.
        """
        if not self.kernel:
            rows = x.flatten(1, -2) if x.ndim > 2 else x[:, None]
            return rows[:, _choose(rows.shape[1], positions, generator)].flatten(0, 1)[None]
        if self.transposed:
            x = _spread(x, self.stride)
        sizes = [amount for pair in reversed(self.padding) for amount in pair]
        windows = F.pad(x, sizes)
        steps = (1,) * len(self.kernel) if self.transposed else self.stride
        for axis, (size, step, gap) in enumerate(zip(self.kernel, steps, self.dilation, strict=True)):
            windows = windows.unfold(2 + axis, gap * (size - 1) + 1, step)[..., ::gap]
        places = windows.shape[2 : 2 + len(self.kernel)]
        chosen = _choose(math.prod(places), positions, generator)
        index: Any = (slice(None), slice(None), *torch.unravel_index(chosen, places))
        found = windows[index].transpose(1, 2)  # (N, places, C, *kernel)
        return found.flatten(0, 1).unflatten(1, (self.groups, -1)).transpose(0, 1).flatten(2)


def whole(weight: Tensor, channel_axis: int) -> Layer:
    """Describe a weight that no layer reads as it is: by its own shape, output channels along `channel_axis`."""
    return Layer(kernel=tuple(weight.shape[2:]), transposed=channel_axis == 1)


def layer_of(node: Node) -> Layer | None:
    """Say what a node with a weight computes; None where it is no layer that these matrices describe."""
    make = LAYERS.get(node.target)
    return None if make is None else make(node)


def _convolution(node: Node) -> Layer | None:
    _, weight, _, stride, padding, dilation, groups = _arguments(node, 7, (None, 1, 0, 1, 1))
    kernel = tuple(weight.meta["val"].shape[2:])
    stride, dilation = _sizes(stride, kernel), _sizes(dilation, kernel)
    if padding == "same":
        totals = [gap * (size - 1) for gap, size in zip(dilation, kernel, strict=True)]
        pairs = tuple((total // 2, total - total // 2) for total in totals)
    else:
        amounts = _sizes(0 if padding == "valid" else padding, kernel)
        pairs = tuple((amount, amount) for amount in amounts)
    return Layer(kernel, stride, pairs, dilation, groups)


def _transposed(node: Node) -> Layer | None:
    _, weight, _, stride, padding, extra, groups, dilation = _arguments(node, 8, (None, 1, 0, 0, 1, 1))
    kernel = tuple(weight.meta["val"].shape[2:])
    stride, dilation = _sizes(stride, kernel), _sizes(dilation, kernel)
    padding, extra = _sizes(padding, kernel), _sizes(extra, kernel)
    reach = [gap * (size - 1) for gap, size in zip(dilation, kernel, strict=True)]
    pairs = tuple((r - p, r - p + e) for r, p, e in zip(reach, padding, extra, strict=True))
    return Layer(kernel, stride, pairs, dilation, groups, transposed=True)


def _linear(node: Node) -> Layer | None:
    return Layer()


LAYERS: Mapping[Any, Callable[[Node], Layer | None]] = {
    aten.linear.default: _linear,
    **{getattr(aten, f"conv{n}d").default: _convolution for n in (1, 2, 3)},
    **{getattr(aten, f"conv{n}d").padding: _convolution for n in (1, 2, 3)},
    aten.conv_transpose1d.default: _transposed,
    aten.conv_transpose2d.input: _transposed,
    aten.conv_transpose3d.input: _transposed,
}


def _arguments(node: Node, count: int, defaults: tuple[Any, ...]) -> list[Any]:
    return [*node.args, *defaults[len(node.args) - count :]][:count] if len(node.args) < count else list(node.args)


def _sizes(value: Any, kernel: tuple[int, ...]) -> tuple[int, ...]:
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * len(kernel) if len(values) == 1 else values


def _choose(count: int, most: int, generator: torch.Generator) -> Tensor:
    return torch.arange(count) if count <= most else torch.randperm(count, generator=generator)[:most].sort().values


def _spread(x: Tensor, stride: tuple[int, ...]) -> Tensor:
    """Put `stride - 1` zeros between neighbours."""
    sizes = [(size - 1) * step + 1 for size, step in zip(x.shape[2:], stride, strict=True)]
    spread = x.new_zeros(*x.shape[:2], *sizes)
    places = [torch.arange(0, size, step) for size, step in zip(sizes, stride, strict=True)]
    index: Any = (..., *torch.meshgrid(places, indexing="ij"))
    spread[index] = x
    return spread
