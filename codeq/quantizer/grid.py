"""This module puts dead-zone levels on one uniform grid of int8 codes, and defines the record that export reads.

A level index k of the dead-zone quantizer (arXiv:2512.12981) has the value step_size * k + shift * sign(k).
With shift / step_size snapped to a fraction offset / multiplier of small integers,

    code  = multiplier * k + offset * sign(k)            |code| <= grid_limit
    value = scale * code                                 scale = abs_range / (multiplier * quant_max + offset)

which ONE affine dequantization decodes (zero point 0; DequantizeLinear in the ONNX operator specification). On the
paper's own grid the shift is kept as a float instead: multiplier = 1, offset = 0, and
value = scale * code + shift * sign(code).
"""

import ctypes
import math
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

SNAP_TOLERANCE = 1 / 16
"""Largest error of offset / multiplier, in steps, at which a smaller multiplier is preferred."""

MAX_MULTIPLIER = 16
"""With multiplier 16 the snapping error is at most 1/32 step: below SNAP_TOLERANCE, so more is never needed."""


class Grid(NamedTuple):
    """Says where the levels of one tensor lie, in plain numbers: every device and every rank reads the same ones.

    Attributes:
        scale: Weight units, a float32 value.
        multiplier, offset: code = multiplier * level + offset * sign(level).
        quant_max: Levels per sign.
        shift: Weight units, a float32 value; 0 on the integer grid, whose shift is scale * offset.
    """

    scale: float
    multiplier: int
    offset: int
    quant_max: int
    shift: float

    @property
    def step_size(self) -> float:
        """Return the distance of neighbouring levels, weight units, a float32 value."""
        return float32(self.scale * self.multiplier)

    @property
    def full_shift(self) -> float:
        """Return (dead_zone - step_size) / 2, weight units, a float32 value."""
        return float32(float32(self.scale * self.offset) + self.shift)


def float32(value: float) -> float:
    """Round to the nearest float32 value."""
    return ctypes.c_float(value).value


def fit_quant_max(quant_max: int, dead_fraction: float, grid_limit: int) -> int:
    """Find the most levels per sign, at most `quant_max`, whose codes fit into `grid_limit`.

    With a dead zone of half width h = dead_fraction * abs_range, the top code at multiplier 1 is
    (quant_max - 1/2) / (1 - dead_fraction), so a wide dead zone eats levels of wide bit widths.

    Args:
        quant_max: Wanted number of levels per sign.
        dead_fraction: Half dead zone over range, in [0, 1).
        grid_limit: Largest code magnitude.

    Returns:
        An integer in [1, quant_max].
    """
    return max(1, min(quant_max, math.floor(grid_limit * (1 - dead_fraction) + 0.5)))


def snap_shift(ratio: float, quant_max: int, grid_limit: int) -> tuple[int, int]:
    """Snap shift / step_size to offset / multiplier, the smallest multiplier within SNAP_TOLERANCE.

    Args:
        ratio: shift / step_size, at least -1/2.
        quant_max: Levels per sign, from `fit_quant_max`.
        grid_limit: Largest code magnitude: multiplier * quant_max + offset <= grid_limit.

    Returns:
        (multiplier, offset) with multiplier >= 1 and multiplier + offset >= 1.
        Where no fraction that fits is within SNAP_TOLERANCE, the nearest one.
    """
    # A multiplier of 1 is always kept: rounding may push its offset one past the limit, and min takes it back.
    nearest, least = (1, min(round(ratio), grid_limit - quant_max)), math.inf
    for multiplier in range(1, MAX_MULTIPLIER + 1):
        offset = nearest[1] if multiplier == 1 else round(ratio * multiplier)
        error = abs(offset / multiplier - ratio)
        if multiplier * quant_max + offset > grid_limit or error >= least:
            continue
        nearest, least = (multiplier, offset), error
        if error <= SNAP_TOLERANCE:
            break
    return nearest


@dataclass(frozen=True, eq=False)
class WeightEncoding:
    """Holds one weight tensor as integers, as training hands it to export. Nothing after this rounds a weight again.

    On the integer grid (`shift is None`) `codes.float() * scale` IS the weight, bit for bit.
    On the paper's grid the weight is `codes.float() * scale + shift * codes.sign()`.

    Attributes:
        codes: int8, the weight's shape, |code| <= 127.
        scale: Positive float32, weight units, `()` per tensor or `(C,)` per channel.
        axis: The channel axis of `codes` that `scale` runs along; None per tensor.
        bit_width: Bits of a level index with its sign, 2 to 8.
        quant_max: Levels per sign; at most 2 ** (bit_width - 1) - 1.
        multiplier, offset: code = multiplier * level + offset * sign(level).
        shift: None on the integer grid, else float32 with the shape of `scale`, weight units.

    Raises:
        ValueError: A field contradicts another one; the message names it.
    """

    codes: Tensor
    scale: Tensor
    bit_width: int
    quant_max: int
    multiplier: int = 1
    offset: int = 0
    axis: int | None = None
    shift: Tensor | None = field(default=None)

    def __post_init__(self) -> None:
        if self.codes.dtype != torch.int8:
            raise ValueError(f"codes have dtype {self.codes.dtype}, expected torch.int8")
        expected = () if self.axis is None else (self.codes.shape[self.axis],)
        parameters = {"scale": self.scale} if self.shift is None else {"scale": self.scale, "shift": self.shift}
        for name, value in parameters.items():
            if value.dtype != torch.float32 or tuple(value.shape) != expected:
                raise ValueError(
                    f"{name} is {value.dtype} of shape {tuple(value.shape)}, "
                    f"expected torch.float32 of shape {expected} for axis {self.axis}"
                )
        if not bool((self.scale > 0).all() and torch.isfinite(self.scale).all()):
            raise ValueError("scale must be positive and finite")
        if not 1 <= self.quant_max <= 2 ** (self.bit_width - 1) - 1:
            raise ValueError(f"quant_max {self.quant_max} does not fit bit_width {self.bit_width}")
        if self.multiplier < 1 or self.multiplier + self.offset < 1 or self.top_code > 127:
            raise ValueError(f"multiplier {self.multiplier} and offset {self.offset} leave int8 or the code order")

    @property
    def top_code(self) -> int:
        """Return the largest code that the grid allows."""
        return self.multiplier * self.quant_max + self.offset

    @property
    def levels(self) -> Tensor:
        """Return the level indices, int8, in [-quant_max, quant_max]: what compact storage needs to keep."""
        codes = self.codes.to(torch.int16)
        return ((codes - self.offset * codes.sign()) // self.multiplier).to(torch.int8)

    @property
    def nnz(self) -> int:
        """Count the non-zero weights."""
        return int(torch.count_nonzero(self.codes))

    @property
    def sparsity(self) -> float:
        """Return the exact zeros as a fraction in [0, 1]."""
        return 1 - self.nnz / max(self.codes.numel(), 1)

    def dequantize(self) -> Tensor:
        """Decode the weight, float32, exactly as training's forward pass returned it."""
        codes = self.codes.float()
        value = codes * self.along_axis(self.scale)
        return value if self.shift is None else value + self.along_axis(self.shift) * codes.sign()

    def along_axis(self, parameter: Tensor) -> Tensor:
        """Reshape a per-channel parameter so that it broadcasts against `codes`."""
        if self.axis is None:
            return parameter
        shape = [1] * self.codes.ndim
        shape[self.axis] = -1
        return parameter.reshape(shape)

    def entropy_bits(self) -> float:
        """Compute the Shannon bound of the codes, in bits: numel times the entropy of their empirical distribution."""
        counts = torch.bincount(self.codes.flatten().long() + 128, minlength=256).double()
        frequencies = counts[counts > 0] / counts.sum()
        return float(-(frequencies * frequencies.log2()).sum() * self.codes.numel()) + 0.0
