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
from codeq.quantizer.choices import (
    GRIDS,
    MAX_BITS,
    MAX_GRID_LIMIT,
    MIN_BITS,
    MIN_GRID_LIMIT,
    MIN_THETA,
    THETA_GRADIENTS,
)
from codeq.quantizer.fused import Slopes, fused_quantize, levels_of
from codeq.quantizer.grid import Grid, WeightEncoding
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
        theta_gradient: What the task's gradient of both thetas is. "sum" over the weights, as autograd gives it and the
            paper has it: it grows with the layer. "lsq" divides it by sqrt(numel quant_max), the normalisation of
            step sizes in Esser et al. 2020, "Learned Step Size Quantization", arXiv:1902.08153, section 2.2, times
            THETA_GAIN, so that layers of all sizes move alike.

    Attributes:
        theta_dz: Parameter `()`, sets the dead zone. Its sign has no meaning.
        theta_bit: Parameter `()`, or None when `bits` is given.
        enabled: When False, `forward` returns the weight untouched.

    Raises:
        ValueError: An argument outside its range.

    Example:
        >>> quantizer = DeadZoneQuantizer(bits=4)
        >>> w = torch.randn(16, 8, 3, 3)
        >>> encoding = quantizer.encode(w)
        >>> torch.equal(quantizer(w), encoding.codes.float() * encoding.scale)
        True
    """

    frozen: Tensor
    frozen_grid: Tensor

    def __init__(
        self,
        bits: int | None = 4,
        max_bits: int = MAX_BITS,
        grid: Literal["integer", "paper"] = "integer",
        grid_limit: int = 127,
        theta_init: float | None = None,
        theta_gradient: Literal["sum", "lsq"] = "sum",
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
        if theta_init is None:
            theta_init = TERNARY_THETA_INIT if bits == MIN_BITS else THETA_INIT
        self.bits = bits
        self.max_bits = max_bits
        self.grid = grid
        self.grid_limit = grid_limit
        self.theta_gradient = theta_gradient
        self.enabled = True
        self.theta_dz = nn.Parameter(torch.tensor(float(theta_init)))
        self.theta_bit = nn.Parameter(torch.tensor(THETA_INIT)) if bits is None else None
        self._range = RangeCache()
        self.register_buffer("frozen", torch.tensor(False))
        self.register_buffer("frozen_grid", torch.zeros(len(Grid._fields)))

    def config(self) -> dict[str, int | str | None]:
        """Return the constructor arguments that rebuild this quantizer before its state is loaded."""
        names = ("bits", "max_bits", "grid", "grid_limit", "theta_gradient")
        return {name: getattr(self, name) for name in names}

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
        w = _as_float32(weight)
        if bool(self.frozen):
            grid, slopes = self._frozen(), None
        else:
            q = self._range_quantile(self.effective_theta(), self.bit_width())
            reach = self._range.get(weight, w, q) if self.training and weight.requires_grad else abs_range(w, q)
            grid, slopes = self._derive(reach)
            slopes = slopes.scaled(self._gradient_scale(w, grid))
        return fused_quantize(w, self.theta_dz, self.theta_bit, grid, slopes).to(weight.dtype)

    def forward_plain(self, weight: Tensor) -> Tensor:
        """Compute `forward` by its definition: torch's own operators, autograd, a quantile of the whole tensor; slow.

        Same values and gradients (to rounding); what `forward` is tested against and measured next to.
        """
        if not self.enabled:
            return weight
        w = _as_float32(weight)
        if bool(self.frozen):
            grid = self._frozen()
            levels, _ = levels_of(w.detach(), grid)
            surrogate = w
        else:
            q = self._range_quantile(self.effective_theta(), self.bit_width())
            reach = abs_range(w, q, plain_abs_quantile)
            grid, _ = self._derive(reach)
            levels, unrounded = levels_of(w.detach(), grid)
            step_size, shift = self._step_and_shift(reach, grid.quant_max)
            # Values do not reach the result, gradients do.
            gradient_scale = self._gradient_scale(w, grid)
            step_size, shift = step_size * gradient_scale, shift * gradient_scale
            surrogate = w + step_size * (levels - unrounded) + shift * (levels.sign() - w.detach().sign())
        value = dequantize_levels(levels, grid.multiplier, grid.offset, grid.scale, grid.shift)
        return straight_through(value, surrogate).to(weight.dtype)

    @torch.no_grad()
    def encode(self, weight: Tensor) -> WeightEncoding:
        """Freeze a weight as integer codes: the only thing that export reads.

        Args:
            weight: As for `forward`, finite.

        Raises:
            ValueError: The weight has NaN or infinite entries.
        """
        w = _as_float32(weight.detach())
        if not bool(torch.isfinite(w).all()):
            raise ValueError(f"weight of shape {tuple(w.shape)} has NaN or infinite entries")
        grid = self.exact_grid(w)
        levels, _ = levels_of(w, grid)
        codes = dequantize_levels(levels, grid.multiplier, grid.offset, 1.0, 0.0)
        return WeightEncoding(
            codes=codes.to(torch.int8),
            scale=torch.tensor(grid.scale, device=w.device),
            bit_width=self.bit_width(),
            quant_max=grid.quant_max,
            multiplier=grid.multiplier,
            offset=grid.offset,
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
        grid, _ = self._derive(self._exact_range(_as_float32(weight.detach())))
        self.frozen_grid.copy_(torch.tensor(grid))
        self.frozen.fill_(True)
        self._hold_thetas()

    def grid_at(self, reach: Callable[[float], float], theta: float, bits: int) -> Grid:
        """Compute the grid at a magnitude of theta_dz and a bit width other than the present ones, frozen or not.

        Args:
            reach: The weight's range by quantile: `abs_range` of it, or a cheaper reading of the same.
            theta: |theta_dz|; held at MIN_THETA.
            bits: 2 to 8.
        """
        theta = max(theta, MIN_THETA)
        return self._levels(reach(self._range_quantile(theta, bits)), theta, bits)

    def exact_grid(self, weight: Tensor) -> Grid:
        """Return the grid of a weight as it is now: the frozen one, or what its exact range and the thetas give."""
        if bool(self.frozen):
            return self._frozen()
        return self._derive(self._exact_range(_as_float32(weight)))[0]

    def validate_frozen(self) -> None:
        """Check a frozen grid that came from a file.

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

    def extra_repr(self) -> str:
        """Describe the quantizer for `print(model)`."""
        bits = self.bits if self.bits is not None else f"learned, at most {self.max_bits}"
        limit = f", grid_limit={self.grid_limit}" if self.grid == "integer" else ""
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
        return super().train(mode)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        was_frozen = not self.frozen.is_meta and bool(self.frozen)
        super()._load_from_state_dict(*args, **kwargs)
        self._range.clear()
        if self.frozen.is_meta:
            return
        if bool(self.frozen):
            self._hold_thetas()
        elif was_frozen:
            # Back to a state from before the freeze, as a training loop's own checkpoints do: the thetas train again.
            for parameter in self.parameters():
                parameter.requires_grad_(True)

    def _frozen(self) -> Grid:
        scale, multiplier, offset, quant_max, shift = self.frozen_grid.tolist()
        return Grid(scale, int(multiplier), int(offset), int(quant_max), shift)

    def _exact_range(self, w: Tensor) -> float:
        return abs_range(w, self._range_quantile(self.effective_theta(), self.bit_width()))

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
