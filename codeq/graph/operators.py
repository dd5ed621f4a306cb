"""These tables list aten operators by what they do to values: those that move, that split, that clamp them."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.fx import Node

aten = torch.ops.aten

MOVES = frozenset(
    {
        aten.view.default,
        aten.reshape.default,
        aten.flatten.using_ints,
        aten.unflatten.int,
        aten.permute.default,
        aten.transpose.int,
        aten.t.default,
        aten.slice.Tensor,
        aten.select.int,
        aten.squeeze.dim,
        aten.squeeze.dims,
        aten.squeeze.default,
        aten.unsqueeze.default,
        aten.expand.default,
        aten.contiguous.default,
        aten.clone.default,
        aten.alias.default,
        aten.detach.default,
        aten.dropout.default,
        aten.feature_dropout.default,
        aten.max_pool1d.default,
        aten.max_pool2d.default,
        aten.max_pool3d.default,
        aten.pad.default,
        aten.constant_pad_nd.default,
        aten.upsample_nearest2d.vec,
        aten._upsample_nearest_exact2d.vec,
        aten.flip.default,
        aten.roll.default,
        aten.pixel_shuffle.default,
        aten.pixel_unshuffle.default,
        aten.cat.default,
        aten.amax.default,
        aten.amin.default,
        aten.index_select.default,
        aten.index.Tensor,
    }
)
"""Operators whose every output value is one of their inputs', or the constant of a padding."""

PICKS = frozenset({aten.index_select.default, aten.index.Tensor})
"""Moves of their first tensor alone: the others are places."""

SPLITS = frozenset(
    {aten.chunk.default, aten.split.Tensor, aten.split_with_sizes.default, aten.unbind.int, aten.split.sizes}
)
"""Moves that give several values."""

INTERPOLATIONS = frozenset({aten.upsample_bilinear2d.vec})
"""Operators whose every output value is a weighted mean of some of their input's: no grid holds it that does not hold
these, so that codes keep theirs."""

FILLED = frozenset(
    {
        aten.zeros_like.default,
        aten.ones_like.default,
        aten.full_like.default,
        aten.empty_like.default,
        aten.new_zeros.default,
        aten.new_ones.default,
        aten.new_full.default,
        aten.new_empty.default,
        aten.fill.Scalar,
        aten.fill.Tensor,
    }
)
"""Operators that read their first tensor for its shape and dtype alone."""

CLAMPS: Mapping[Any, Callable[[Node], tuple[float, float]]] = {
    aten.relu.default: lambda node: (0.0, float("inf")),
    aten.relu6.default: lambda node: (0.0, 6.0),
    aten.hardtanh.default: lambda node: _limits(node, -1.0, 1.0),
    aten.clamp.default: lambda node: _limits(node, float("-inf"), float("inf")),
    aten.clamp_min.default: lambda node: (float(node.args[1]), float("inf")),  # type: ignore[arg-type]
}
"""Operators that cut values off at a lower and an upper limit, which the function reads from the node."""


def _limits(node: Node, low: float, high: float) -> tuple[float, float]:
    values = [*node.args[1:3], None, None][:2]
    given = [values[0] if values[0] is not None else low, values[1] if values[1] is not None else high]
    return float(given[0]), float(given[1])  # type: ignore[arg-type]
