"""This module quantizes a weight with one range per output channel: the operator of levels.py with a scale per channel.

    R[c]       = quantile of |w[c]|                                  channel_range, no gradient
    scale[c]   = R[c] / (multiplier * quant_max + offset)
    threshold  = dead_zone / 2 = R[c] (1 - tanh|theta_dz|)           relative to the range: one theta for all channels

Dead zone, bit width, multiplier and offset are the layer's, so that codes mean the same in every channel and runtimes
decode them with one DequantizeLinear along an axis. In units of R[c] all channels lie on one grid. Ranges per channel
are what post-training quantization needs (Krishnamoorthi 2018, arXiv:1806.08342, section 3); the operator is that of
Wenshøj et al. 2025, arXiv:2512.12981.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from codeq.quantizer.abs_range import LEAST_RANGE
from codeq.quantizer.fused import Slopes
from codeq.quantizer.grid import Grid
from codeq.quantizer.levels import dequantize_levels, quantize_levels


class ChannelGrid(NamedTuple):
    """Says where the levels of one tensor lie that has a scale per channel.

    Attributes:
        scale: float32 `(C,)`, weight units.
        multiplier, offset: code = multiplier * level + offset * sign(level).
        quant_max: Levels per sign.
        axis: Of the channels.
    """

    scale: Tensor
    multiplier: int
    offset: int
    quant_max: int
    axis: int

    @classmethod
    def of(cls, unit: Grid, reach: Tensor, axis: int) -> "ChannelGrid":
        """Stretch a grid of range 1 to the range of every channel, float32 `(C,)`."""
        top = unit.multiplier * unit.quant_max + unit.offset
        return cls((reach.double() / top).float(), unit.multiplier, unit.offset, unit.quant_max, axis)

    def along(self, ndim: int) -> tuple[Tensor, Tensor, Tensor]:
        """Give (1 / step_size, shift, scale) in the form in which they broadcast against `ndim` dimensions, float32.

        The products are rounded to float32 once, as `Grid.step_size` and `Grid.full_shift` are.
        """
        shape = [1] * ndim
        shape[self.axis] = -1
        scale = self.scale.double().reshape(shape)
        step_size = (scale * self.multiplier).float()
        return (1 / step_size.double()).float(), (scale * self.offset).float(), scale.float()


def channel_range(w: Tensor, q: float, axis: int) -> Tensor:
    """Read the range of every channel: the q-quantile of its |w| with linear interpolation, made positive.

    Args:
        w: Any shape of one dimension or more, each channel of at least one element.
        q: In [0, 1].
        axis: Of the channels.

    Returns:
        float32 `(C,)`, without gradient: max|w| where the quantile is 0, and 1 where all weights are.
    """
    rows = w.detach().abs().movedim(axis, 0).flatten(1) if w.ndim > 1 else w.detach().abs()[:, None]
    position = q * (rows.shape[1] - 1)
    needed = rows.shape[1] - math.floor(position)
    top = rows.topk(needed, dim=1).values
    quantile = top[:, -1] if position % 1 == 0 else torch.lerp(top[:, -1], top[:, -2], position % 1)
    quantile = torch.where(quantile == 0, top[:, 0], quantile)
    return torch.where(quantile == 0, torch.ones_like(quantile), quantile.clamp(min=LEAST_RANGE)).float()


def channel_levels(w: Tensor, grid: ChannelGrid) -> tuple[Tensor, Tensor]:
    """Compute `quantize_levels` on a grid: (levels, unrounded), float32 with the shape of `w`."""
    inverse_step, shift, _ = grid.along(w.ndim)
    return quantize_levels(w, inverse_step, shift, grid.quant_max)


def channel_values(levels: Tensor, grid: ChannelGrid) -> Tensor:
    """Compute `dequantize_levels` on a grid, float32 with the shape of `levels`."""
    return dequantize_levels(levels, grid.multiplier, grid.offset, grid.along(levels.ndim)[2], 0.0)


def channel_quantize(
    w: Tensor, theta_dz: Tensor, theta_bit: Tensor | None, grid: ChannelGrid, reach: Tensor, slopes: Slopes | None
) -> Tensor:
    """Fake-quantize a weight with a scale per channel.

    Args:
        w: float32, any shape.
        theta_dz, theta_bit: What the grid was derived from; they get gradients.
        grid: Where the levels lie.
        reach: The range of every channel, float32 `(C,)`.
        slopes: How a grid of range 1 moves with the thetas; None on a frozen grid, where they get none.

    Returns:
        The quantized weight, with the shape of `w`.
    """
    value: Tensor = _ChannelQuantize.apply(w, theta_dz, theta_bit, grid, reach, slopes)
    return value


class _ChannelQuantize(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        w: Tensor,
        theta_dz: Tensor,
        theta_bit: Tensor | None,
        grid: ChannelGrid,
        reach: Tensor,
        slopes: Slopes | None,
    ) -> Tensor:
        ctx.grid, ctx.reach, ctx.slopes = grid, reach, slopes
        if slopes is not None:
            ctx.save_for_backward(w, theta_dz, theta_bit)
        levels, _ = channel_levels(w, grid)
        return channel_values(levels, grid)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.slopes is None:
            return gradient, None, None, None, None, None
        w, theta_dz, theta_bit = ctx.saved_tensors
        levels, unrounded = channel_levels(w, ctx.grid)
        shape = [1] * w.ndim
        shape[ctx.grid.axis] = -1
        weighted = gradient * ctx.reach.reshape(shape)
        by_step = (weighted * (levels - unrounded)).sum()
        by_shift = (weighted * (levels.sign() - w.sign())).sum()
        slopes = ctx.slopes
        by_dz = (by_step * slopes.step_by_dz + by_shift * slopes.shift_by_dz).to(theta_dz.dtype)
        by_bit = None
        if theta_bit is not None:
            by_bit = (by_step * slopes.step_by_bit + by_shift * slopes.shift_by_bit).to(theta_bit.dtype)
        return gradient, by_dz, by_bit, None, None, None
