"""This module defines the dead-zone quantizer, with learnable dead zone and bit width.

    R         = 0.99 quantile of |w|                                 abs_range, no gradient
    dead_zone = 2 R (1 - tanh|theta_dz|)                             full width, weight units
    bit_width = round(tanh|theta_bit| (max_bits - 2) + 2)            or fixed
    quant_max = 2^(bit_width - 1) - 1
    step_size = (R - dead_zone / 2) / (quant_max - 1/2) + 1e-8
    shift     = (dead_zone - step_size) / 2
    level     = clamp(round(sign(w) relu(|w| - shift) / step_size), -quant_max, quant_max)
    value     = step_size * level + shift * sign(level)

|w| <= dead_zone / 2 gives level 0, hence exactly 0: the dead zone is magnitude pruning with a learned threshold.
Gradients pass round, relu and clamp unchanged and do not pass sign. Source: Wenshøj et al. 2025,
"CoDeQ", arXiv:2512.12981. On `grid="integer"` shift / step_size is snapped in the forward pass (see grid.py).
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from codeq.quantizer.abs_range import RANGE_QUANTILE, RangeCache, abs_range, plain_abs_quantile
from codeq.quantizer.channels import ChannelGrid, channel_levels, channel_quantize, channel_range, channel_values
from codeq.quantizer.choices import (
    GRANULARITIES,
    GRIDS,
    MAX_BITS,
    MAX_GRID_LIMIT,
    MIN_BITS,
    MIN_GRID_LIMIT,
    MIN_THETA,
    THETA_GRADIENTS,
)
from codeq.quantizer.fused import Slopes, fused_quantize, levels_of
from codeq.quantizer.grid import Grid, WeightEncoding, float32
from codeq.quantizer.levels import dequantize_levels
from codeq.quantizer.placement import (
    STEP_EPSILON,
    TERNARY_THETA_INIT,
    place_integer_levels,
    place_paper_levels,
    range_quantile,
    slopes_by_thetas,
)
from codeq.quantizer.straight_through import straight_through

THETA_INIT = 3.0
"""Start of both thetas in the paper: a dead zone of 1 % of the range, and the most bits."""
THETA_GAIN = 10.0
"""Factor on LSQ's normalisation: with it the task moves a theta about as far as a budget or a lambda of 0.01 does."""


class DeadZoneQuantizer(nn.Module):
    """Fake-quantizes one weight tensor with a learned dead zone and, if asked, a learned bit width.

    Args:
        bits: 2 to 8, or None to learn the bit width from `theta_bit`.
        max_bits: Upper end of a learned bit width, 3 to 8. Unused when `bits` is given.
        grid: "integer" snaps the levels to `scale * code` with integer codes (deployable as trained);
            "paper" is the operator as published.
        grid_limit: Largest |code| on the integer grid, 7 to 127. 63 keeps every sum of two uint8 x int8
            products inside int16, so that CPUs without VNNI compute the same numbers.
        theta_init: Start of `theta_dz`; by default 3, and 0.55 at a fixed 2 bits, where 3 is useless.
        granularity: "tensor" has one range R for the weight, "channel" one for every output channel, to which the dead
            zone is relative: thetas, bits and codes stay the layer's, and the scale becomes `(C,)` (channels.py). On
            the integer grid only.
        axis: Of the output channels: 0, and 1 for transposed convolutions. Unused with "tensor".
        theta_gradient: What the task's gradient of both thetas is. "sum" over the weights, as autograd gives it and the
            paper has it: it grows with the layer. "lsq" divides it by sqrt(numel quant_max), the normalisation of
            step sizes in Esser et al. 2020, "Learned Step Size Quantization", arXiv:1902.08153, section 2.2, times
            THETA_GAIN, so that layers of all sizes move alike.
        channels: Whole input channels can be left out too, by `live`.

    Attributes:
        theta_dz: Parameter `()`, sets the dead zone. Its sign has no meaning.
        theta_bit: Parameter `()`, or None when `bits` is given.
        enabled: When False, `forward` returns the weight untouched.
        live: Buffer, bool `(C_in,)`, with `channels` only: an input channel that does not live has weights of 0. Their
            gradients go on to the weight, as they do through the dead zone, so that it can return.

    Raises:
        ValueError: An argument outside its range.

    Examples:
        >>> quantizer = DeadZoneQuantizer(bits=4)
        >>> w = torch.randn(16, 8, 3, 3)
        >>> encoding = quantizer.encode(w)
        >>> torch.equal(quantizer(w), encoding.codes.float() * encoding.scale)
        True
    """

    frozen: Tensor
    frozen_grid: Tensor
    frozen_scale: Tensor
    """It holds every channel's scale, `(C,)`; `(0,)` before a weight is known. With "channel" only: `frozen_grid` is
    then that of a range of 1."""
    live: Tensor

    def __init__(
        self,
        bits: int | None = 4,
        max_bits: int = MAX_BITS,
        grid: Literal["integer", "paper"] = "integer",
        grid_limit: int = 127,
        theta_init: float | None = None,
        theta_gradient: Literal["sum", "lsq"] = "sum",
        granularity: Literal["tensor", "channel"] = "tensor",
        axis: int = 0,
        channels: bool = False,
    ) -> None:
        super().__init__()
        if bits is not None and (not _is_integer(bits) or not MIN_BITS <= bits <= MAX_BITS):
            raise ValueError(f"bits must be {MIN_BITS} to {MAX_BITS}, or None to learn them, found {bits!r}")
        if not _is_integer(max_bits) or not MIN_BITS < max_bits <= MAX_BITS:
            raise ValueError(f"max_bits must be {MIN_BITS + 1} to {MAX_BITS}, found {max_bits!r}")
        if grid not in GRIDS:
            raise ValueError(f"grid must be {_either(GRIDS)}, found {grid!r}")
        if not _is_integer(grid_limit) or not MIN_GRID_LIMIT <= grid_limit <= MAX_GRID_LIMIT:
            raise ValueError(f"grid_limit must be {MIN_GRID_LIMIT} to {MAX_GRID_LIMIT}, found {grid_limit!r}")
        if theta_gradient not in THETA_GRADIENTS:
            raise ValueError(f"theta_gradient must be {_either(THETA_GRADIENTS)}, found {theta_gradient!r}")
        if granularity not in GRANULARITIES:
            raise ValueError(f"granularity must be {_either(GRANULARITIES)}, found {granularity!r}")
        if granularity == "channel" and grid == "paper":
            raise ValueError("granularity 'channel' needs grid 'integer': the paper's grid has one range per tensor")
        if not _is_integer(axis) or axis not in (0, 1):
            raise ValueError(f"axis must be 0 or 1, found {axis!r}")
        if theta_init is None:
            theta_init = TERNARY_THETA_INIT if bits == MIN_BITS else THETA_INIT
        self.bits = bits
        self.max_bits = max_bits
        self.grid = grid
        self.grid_limit = grid_limit
        self.theta_gradient = theta_gradient
        self.granularity = granularity
        self.axis = axis
        self.channels = channels
        self.enabled = True
        self.theta_dz = nn.Parameter(torch.tensor(float(theta_init)))
        self.theta_bit = nn.Parameter(torch.tensor(THETA_INIT)) if bits is None else None
        self._range: RangeCache[float] = RangeCache(self._read_range)
        self._ranges: RangeCache[Tensor] = RangeCache(self._read_ranges)
        self.register_buffer("frozen", torch.tensor(False))
        self.register_buffer("frozen_grid", torch.zeros(len(Grid._fields)))
        if self.per_channel:
            self.register_buffer("frozen_scale", torch.zeros(0))
        if channels:
            self.register_buffer("live", torch.ones(0, dtype=torch.bool))

    def config(self) -> dict[str, int | str | None]:
        """Return the constructor arguments that rebuild this quantizer before its state is loaded."""
        names = ["bits", "max_bits", "grid", "grid_limit", "theta_gradient", "granularity", "axis"]
        names += ["channels"] if self.channels else []  # files without it are as they were
        return {name: getattr(self, name) for name in names}

    @property
    def per_channel(self) -> bool:
        """Tell whether every output channel has a range of its own."""
        return self.granularity == "channel"

    def expect(self, weight: Tensor) -> None:
        """Prepare for a weight of this shape, before anything is frozen: its state has a scale per channel."""
        if self.per_channel:
            self.frozen_scale = torch.zeros(weight.shape[self.axis])
        if self.channels:
            self.live = torch.ones(weight.shape[1 - self.axis], dtype=torch.bool)

    @torch.no_grad()
    def let_live(self, live: Tensor) -> None:
        """Set which input channels live.

        Args:
            live: bool `(C_in,)`; one of them lives.

        Raises:
            ValueError: It is of another shape, none lives, or the quantizer was not made with `channels`.
        """
        if not self.channels or live.shape != self.live.shape or not bool(live.any()):
            size = len(self.live) if self.channels else 0
            raise ValueError(f"{int(live.sum())} of {tuple(live.shape)} channels to live, expected some of ({size},)")
        self.live.copy_(live)
        self._range.clear()
        self._ranges.clear()

    def bit_width(self, factor: float = 1.0) -> int:
        """Return the bits per weight.

        Where they are learned it is tanh|theta_bit * factor| between 2 and `max_bits`, rounded.
        """
        if self.theta_bit is None:
            assert self.bits is not None
            return self.bits
        return round(math.tanh(abs(self.theta_bit.item()) * factor) * (self.max_bits - MIN_BITS) + MIN_BITS)

    def effective_theta(self) -> float:
        """Return |theta_dz|, held at MIN_THETA or above."""
        return max(abs(self.theta_dz.item()), MIN_THETA)

    def collapsed(self) -> bool:
        """Tell whether the collapse guard is holding this layer (|theta_dz| below MIN_THETA)."""
        return abs(self.theta_dz.item()) < MIN_THETA

    def forward(self, weight: Tensor) -> Tensor:
        """Fake-quantize a weight.

        In training mode the range of one and the same weight is read again every ten calls only (abs_range.py); a
        change of mode, loading a state and every use outside training read it exactly.

        Args:
            weight: float32 or float64, any shape. float64 is quantized in float32.

        Returns:
            The quantized weight, shape and dtype of `weight`: on the integer grid exactly `codes.float() * scale`
            of `encode`. Its gradient is the closed form of the straight-through rule: identity to `weight`, and
            to the step size and the shift (hence both thetas) level - unrounded and sign(level) - sign(weight),
            summed over the weight and normalised as `theta_gradient` says.
            The hold of theta and the rounding of bits pass gradients unchanged, so that theta can return.

        Raises:
            TypeError: Another dtype.
        """
        if not self.enabled:
            return weight
        w = self._living(weight)
        if self.per_channel:
            return self._forward_channels(weight, w)
        if bool(self.frozen):
            grid, slopes = self._frozen(), None
        else:
            q = self._quantile()
            kept = self.training and weight.requires_grad
            reach = self._range.get(weight, w, q) if kept else self._read_range(w, q)
            grid, slopes = self._derive(reach)
            slopes = slopes.scaled(self._gradient_scale(w, grid))
        return fused_quantize(w, self.theta_dz, self.theta_bit, grid, slopes).to(weight.dtype)

    def _forward_channels(self, weight: Tensor, w: Tensor) -> Tensor:
        if bool(self.frozen):
            channels = self._frozen_channels()
            value = channel_quantize(w, self.theta_dz, self.theta_bit, channels, self.frozen_scale, None)
            return value.to(weight.dtype)
        q = self._quantile()
        kept = self.training and weight.requires_grad
        reach = self._ranges.get(weight, w, q) if kept else self._read_ranges(w, q)
        unit, slopes = self._derive(1.0)
        slopes = slopes.scaled(self._gradient_scale(w, unit))
        channels = ChannelGrid.of(unit, reach, self.axis)
        return channel_quantize(w, self.theta_dz, self.theta_bit, channels, reach, slopes).to(weight.dtype)

    def forward_plain(self, weight: Tensor) -> Tensor:
        """Compute `forward` by its definition: torch's own operators, autograd, a quantile of the whole tensor; slow.

        Same values and gradients (to rounding); what `forward` is tested against and measured next to.
        """
        if not self.enabled:
            return weight
        w = self._living(weight)
        if self.per_channel:
            return self._forward_channels_plain(weight, w)
        if bool(self.frozen):
            grid = self._frozen()
            levels, _ = levels_of(w.detach(), grid)
            surrogate = w
        else:
            q = self._quantile()
            reach = abs_range(self._alive(w), q, plain_abs_quantile)
            grid, _ = self._derive(reach)
            levels, unrounded = levels_of(w.detach(), grid)
            step_size, shift = self._step_and_shift(reach, grid.quant_max)
            # Values do not reach the result, gradients do.
            gradient_scale = self._gradient_scale(w, grid)
            step_size, shift = step_size * gradient_scale, shift * gradient_scale
            surrogate = w + step_size * (levels - unrounded) + shift * (levels.sign() - w.detach().sign())
        value = dequantize_levels(levels, grid.multiplier, grid.offset, grid.scale, grid.shift)
        return straight_through(value, surrogate).to(weight.dtype)

    def _forward_channels_plain(self, weight: Tensor, w: Tensor) -> Tensor:
        if bool(self.frozen):
            levels, _ = channel_levels(w.detach(), self._frozen_channels())
            return straight_through(channel_values(levels, self._frozen_channels()), w).to(weight.dtype)
        reach = self._read_ranges(w, self._quantile())
        unit, _ = self._derive(1.0)
        grid = ChannelGrid.of(unit, reach, self.axis)
        levels, unrounded = channel_levels(w.detach(), grid)
        step_size, shift = self._step_and_shift(1.0, unit.quant_max)
        gradient_scale = self._gradient_scale(w, unit)
        ranges = reach.reshape([-1 if dimension == self.axis else 1 for dimension in range(w.ndim)])
        moved = step_size * gradient_scale * (levels - unrounded)
        moved = moved + shift * gradient_scale * (levels.sign() - w.detach().sign())
        return straight_through(channel_values(levels, grid), w + ranges * moved).to(weight.dtype)

    @torch.no_grad()
    def encode(self, weight: Tensor) -> WeightEncoding:
        """Freeze a weight as integer codes: the only thing that export reads.

        Args:
            weight: As for `forward`, finite.

        Raises:
            ValueError: The weight has NaN or infinite entries.
        """
        w = self._living(weight.detach())
        if not bool(torch.isfinite(w).all()):
            raise ValueError(f"weight of shape {tuple(w.shape)} has NaN or infinite entries")
        grid = self.exact_grid(w)
        if self.per_channel:
            channels = self.exact_channels(w)
            levels, _ = channel_levels(w, channels)
            scale = channels.scale.clone()
        else:
            levels, _ = levels_of(w, grid)
            scale = torch.tensor(grid.scale, device=w.device)
        codes = dequantize_levels(levels, grid.multiplier, grid.offset, 1.0, 0.0)
        return WeightEncoding(
            codes=codes.to(torch.int8),
            scale=scale,
            bit_width=self.bit_width(),
            quant_max=grid.quant_max,
            multiplier=grid.multiplier,
            offset=grid.offset,
            axis=self.axis if self.per_channel else None,
            shift=torch.tensor(grid.shift, device=w.device) if self.grid == "paper" else None,
        )

    @torch.no_grad()
    def freeze(self, weight: Tensor) -> None:
        """Fix the grid as `weight` and the thetas give it now; both thetas stop training, the weight goes on.

        A frozen grid stays as it is; `refreeze` fixes it anew.
        """
        if not bool(self.frozen):
            self.refreeze(weight)

    @torch.no_grad()
    def refreeze(self, weight: Tensor) -> None:
        """Freeze, or move a frozen grid to where `weight` and the thetas put it now."""
        w = self._living(weight.detach())
        if self.per_channel:
            self.freeze_channels(self._read_ranges(w, self._quantile()))
            return
        grid, _ = self._derive(self._exact_range(w))
        self._freeze_on(grid)

    @torch.no_grad()
    def freeze_channels(self, reach: Tensor) -> None:
        """Freeze on given ranges under the present thetas: what compression without training chooses.

        Args:
            reach: float32 `(C,)`, positive: the range of every channel, weight units.

        Raises:
            ValueError: The quantizer has one range per tensor.
        """
        if not self.per_channel:
            raise ValueError("ranges per channel need granularity 'channel'")
        unit, _ = self._derive(1.0)
        self.frozen_scale = ChannelGrid.of(unit, reach.to(self.theta_dz.device), self.axis).scale
        self._freeze_on(unit)

    @torch.no_grad()
    def freeze_range(self, reach: float) -> None:
        """Freeze on a given range, positive, weight units, under the present thetas.

        Raises:
            ValueError: The quantizer has one range per channel.
        """
        if self.per_channel:
            raise ValueError("one range needs granularity 'tensor'")
        self._freeze_on(self._derive(reach)[0])

    @torch.no_grad()
    def freeze_grid(self, scale: Tensor, multiplier: int, offset: int, quant_max: int, shift: float = 0.0) -> None:
        """Freeze on a grid that others have chosen, whatever the thetas are.

        Args:
            scale: float32, positive, `()`, or `(C,)` with ranges per channel; weight units.
            multiplier, offset, quant_max: code = multiplier * level + offset * sign(level), of `quant_max` levels.
            shift: Weight units, a float32 value; on the paper's grid only.

        Raises:
            ValueError: The scale has another shape than the granularity asks for.
        """
        if (scale.ndim == 1) != self.per_channel:
            raise ValueError(f"a scale of shape {tuple(scale.shape)} does not fit granularity {self.granularity!r}")
        if not self.per_channel:
            self._freeze_on(Grid(float(scale), multiplier, offset, quant_max, shift))
            return
        self.frozen_scale = scale.to(self.theta_dz.device)
        # That of a range of 1, as `freeze_channels` leaves it.
        self._freeze_on(Grid(float32(1 / (multiplier * quant_max + offset)), multiplier, offset, quant_max, 0.0))

    def _freeze_on(self, grid: Grid) -> None:
        self.frozen_grid.copy_(torch.tensor(grid))
        self.frozen.fill_(True)
        self._hold_thetas()

    def grid_at(self, reach: Callable[[float], float], theta: float, bits: int) -> Grid:
        """Compute the grid at a magnitude of theta_dz and a bit width other than the present ones, frozen or not.

        With ranges per channel it is that of `in_units`, whose range is 1.

        Args:
            reach: The weight's range by quantile: `abs_range` of it, or a cheaper reading of the same. Unused with
                ranges per channel.
            theta: |theta_dz|; held at MIN_THETA.
            bits: 2 to 8.
        """
        theta = max(theta, MIN_THETA)
        return self._levels(1.0 if self.per_channel else reach(self._range_quantile(theta, bits)), theta, bits)

    def exact_grid(self, weight: Tensor) -> Grid:
        """Return the grid of a weight as it is now: the frozen one, or what its exact range and the thetas give.

        With ranges per channel it is that of `in_units`, whose range is 1.
        """
        if bool(self.frozen):
            return self._frozen()
        return self._derive(1.0 if self.per_channel else self._exact_range(self._living(weight)))[0]

    def exact_channels(self, weight: Tensor) -> ChannelGrid:
        """Return the grid of a weight as it is now, with the scale of every channel.

        Raises:
            ValueError: The quantizer has one range per tensor.
        """
        if not self.per_channel:
            raise ValueError("a grid per channel needs granularity 'channel'")
        if bool(self.frozen):
            return self._frozen_channels()
        unit, _ = self._derive(1.0)
        return ChannelGrid.of(unit, self._read_ranges(self._living(weight), self._quantile()), self.axis)

    @torch.no_grad()
    def in_units(self, weight: Tensor) -> Tensor:
        """Give a weight in the units of `grid_at` and `exact_grid`, in which one grid holds for all channels.

        The weight itself with one range per tensor; else each channel over its range, float32. Input channels that do
        not live are 0.
        """
        if not self.per_channel:
            return self._living(weight) if self.channels else weight
        grid = self.exact_channels(weight)
        top = grid.multiplier * grid.quant_max + grid.offset
        return self._living(weight) / (grid.along(weight.ndim)[2] * top)

    def validate_frozen(self, weight: Tensor) -> None:
        """Check a frozen grid that came from a file.

        Args:
            weight: The one that is quantized on it.

        Raises:
            ValueError: It is none that `freeze` writes; the message names the field.
        """
        if not bool(self.frozen):
            return
        grid = dict(zip(Grid._fields, self.frozen_grid.tolist(), strict=True))
        whole = all(grid[name].is_integer() for name in ("multiplier", "offset", "quant_max"))
        limit = self.grid_limit if self.grid == "integer" else 127
        levels = 2 ** ((self.bits or self.max_bits) - 1) - 1
        good = {
            "scale": 0 < grid["scale"] < math.inf,
            "multiplier": whole and grid["multiplier"] >= 1,
            "quant_max": whole and 1 <= grid["quant_max"] <= levels,
            "offset": whole and grid["multiplier"] + grid["offset"] >= 1,
            "shift": math.isfinite(grid["shift"]) and (self.grid == "paper" or grid["shift"] == 0),
        }
        good["offset"] &= grid["multiplier"] * grid["quant_max"] + grid["offset"] <= limit
        for name, holds in good.items():
            if not holds:
                raise ValueError(f"frozen grid has {name} {grid[name]:g}, which no training writes")
        if self.per_channel:
            found, wanted = tuple(self.frozen_scale.shape), (weight.shape[self.axis],)
            if found != wanted or not bool(((self.frozen_scale > 0) & self.frozen_scale.isfinite()).all()):
                raise ValueError(f"frozen scales have shape {found}, expected {wanted} positive numbers")

    def extra_repr(self) -> str:
        """Describe the quantizer for `print(model)`."""
        bits = self.bits if self.bits is not None else f"learned, at most {self.max_bits}"
        limit = f", grid_limit={self.grid_limit}" if self.grid == "integer" else ""
        limit += ", granularity=channel" if self.per_channel else ""
        return f"bits={bits}, grid={self.grid}{limit}"

    def _gradient_scale(self, w: Tensor, grid: Grid) -> float:
        return 1.0 if self.theta_gradient == "sum" else THETA_GAIN / math.sqrt(w.numel() * grid.quant_max)

    def _hold_thetas(self) -> None:
        for parameter in self.parameters():
            parameter.requires_grad_(False)
            parameter.grad = None

    def train(self, mode: bool = True) -> "DeadZoneQuantizer":
        """Switch the mode as any module does; the range is read anew after it."""
        self._range.clear()
        self._ranges.clear()
        return super().train(mode)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        was_frozen = not self.frozen.is_meta and bool(self.frozen)
        super()._load_from_state_dict(*args, **kwargs)
        self._range.clear()
        self._ranges.clear()
        if self.frozen.is_meta:
            return
        if bool(self.frozen):
            self._hold_thetas()
        elif was_frozen:
            # Back to a state from before the freeze, as a training loop's own checkpoints do: the thetas train again.
            for parameter in self.parameters():
                parameter.requires_grad_(True)

    def _living(self, weight: Tensor) -> Tensor:
        """Give a weight in float32, with zeros in the input channels that do not live."""
        w = _as_float32(weight)
        if not self.channels:
            return w
        live = self.live.reshape([-1 if dimension == 1 - self.axis else 1 for dimension in range(w.ndim)])
        return straight_through(w.detach() * live, w)

    def _alive(self, w: Tensor) -> Tensor:
        """Give the part of a weight whose input channels live, which its range is read of."""
        if not self.channels or bool(self.live.all()):
            return w
        return w.detach().index_select(1 - self.axis, self.live.nonzero().reshape(-1))

    def _read_range(self, w: Tensor, q: float) -> float:
        return abs_range(self._alive(w), q)

    def _read_ranges(self, w: Tensor, q: float) -> Tensor:
        return channel_range(self._alive(w), q, self.axis)

    def _frozen(self) -> Grid:
        scale, multiplier, offset, quant_max, shift = self.frozen_grid.tolist()
        return Grid(scale, int(multiplier), int(offset), int(quant_max), shift)

    def _frozen_channels(self) -> ChannelGrid:
        grid = self._frozen()
        return ChannelGrid(self.frozen_scale, grid.multiplier, grid.offset, grid.quant_max, self.axis)

    def _quantile(self) -> float:
        return self._range_quantile(self.effective_theta(), self.bit_width())

    def _exact_range(self, w: Tensor) -> float:
        return self._read_range(w, self._quantile())

    def _derive(self, reach: float) -> tuple[Grid, Slopes]:
        """Derive the grid of a weight of range `reach` under the present thetas, and how it moves with them."""
        bits = self.bit_width()
        grid = self._levels(reach, self.effective_theta(), bits)
        theta_bit = None if self.theta_bit is None else self.theta_bit.item()
        return grid, slopes_by_thetas(reach, grid.quant_max, self.theta_dz.item(), theta_bit, bits, self.max_bits)

    def _levels(self, reach: float, theta: float, bits: int) -> Grid:
        if self.grid == "paper":
            return place_paper_levels(reach, theta, bits)
        return place_integer_levels(reach, theta, bits, self.grid_limit)

    def _range_quantile(self, theta: float, bits: int) -> float:
        # Learned bits that arrive at 2 on the paper's grid keep the paper's range, with its large error.
        return RANGE_QUANTILE if self.grid == "paper" else range_quantile(theta, bits)

    def _step_and_shift(self, reach: float, quant_max: int) -> tuple[Tensor, Tensor]:
        """Write the operator's equations as functions of the thetas, for `forward_plain`: float32 `()` each."""
        magnitude = _magnitude(self.theta_dz)
        dead_fraction = 1 - torch.tanh(straight_through(magnitude.clamp(min=MIN_THETA), magnitude))
        levels_per_sign = torch.tensor(float(quant_max), device=magnitude.device)
        if self.theta_bit is not None:
            learned = torch.tanh(_magnitude(self.theta_bit)) * (self.max_bits - MIN_BITS) + MIN_BITS
            wanted = torch.exp2(straight_through(learned.round(), learned) - 1) - 1
            levels_per_sign = straight_through(levels_per_sign, wanted)
        half_dead_zone = reach * dead_fraction
        step_size = (reach - half_dead_zone) / (levels_per_sign - 0.5) + STEP_EPSILON
        return step_size, half_dead_zone - step_size / 2


def _magnitude(theta: Tensor) -> Tensor:
    """Return |theta|, whose gradient at 0 is 1: a theta there must not be stuck."""
    return theta.float() * torch.copysign(torch.ones_like(theta), theta)


def _either(choices: tuple[str, ...]) -> str:
    """Name some choices, e.g. "'sum' or 'lsq'"."""
    return " or ".join(map(repr, choices))


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _as_float32(weight: Tensor) -> Tensor:
    if weight.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"weight has dtype {weight.dtype}, expected float32 or float64: keep the master weights in float32 "
            "and use torch.autocast for mixed precision"
        )
    # float64 values beyond float32 would become infinite; 1e37 leaves room for the operator's sums.
    return weight if weight.dtype == torch.float32 else weight.clamp(-1e37, 1e37).float()
