"""Dead-zone quantizer with learnable dead zone and bit width.

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
from typing import Any, Literal

import torch
from torch import Tensor, nn

from codeq.grid import Grid, WeightEncoding, fit_quant_max, snap_shift

MIN_BITS = 2
MAX_BITS = 8
THETA_INIT = 3.0
"""Start of both thetas in the paper: a dead zone of 1 % of the range, and the most bits."""
MIN_THETA = 0.25
"""Collapse guard: below it the operator uses 0.25 (a dead zone of three quarters of the range).
At theta = 0 the paper's step size is 1e-8 and 99 % of a layer is zero, whatever the task says."""
RANGE_QUANTILE = 0.99
TERNARY_RANGE_QUANTILE = 0.78
TERNARY_THETA_INIT = 0.55
"""At 2 bits the one level per sign sits on the range itself, so the paper's start (theta = 3, 0.99 quantile) sends
every survivor to the largest weight: relative squared error 3.4. The least-squares ternary quantizer of a Gaussian
has its level at 1.22 sigma, the 0.78 quantile of |w|, and its threshold at half of that, theta = 0.55: error 0.19."""
STEP_EPSILON = 1e-8


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, surrogate: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        return None, gradients[0]


def straight_through(value: Tensor, surrogate: Tensor) -> Tensor:
    """Return `value`, bit for bit; the gradient goes to `surrogate` unchanged, none to `value`."""
    result: Tensor = _StraightThrough.apply(value, surrogate)
    return result


def abs_quantile(w: Tensor, q: float) -> Tensor:
    """Exact q-quantile of |w| with linear interpolation, as `torch.quantile`, but for any number of elements.

    Args:
        w: Any shape, at least one element.
        q: In [0, 1].

    Returns:
        float32 `()`, without gradient.
    """
    magnitude = w.detach().abs().flatten()
    position = q * (magnitude.numel() - 1)
    below = math.floor(position)
    # The two neighbours end the top 1 %, which is cheaper to sort than the whole is to partition (kthvalue).
    top = magnitude.topk(magnitude.numel() - below).values
    return top[-1] if below == position else torch.lerp(top[-1], top[-2], position - below)


def abs_range(w: Tensor, q: float) -> Tensor:
    """`abs_quantile`, made positive: max|w| where fewer than 1 - q of the weights are non-zero, 1 where none is."""
    quantile = abs_quantile(w, q)
    if quantile == 0:
        quantile = w.detach().abs().max()
    # 1e-30 keeps scale = range / 127 a normal float32; a range of 1 gives an all-zero tensor an ordinary scale.
    return torch.where(quantile == 0, torch.ones_like(quantile), quantile.clamp(min=1e-30))


def quantize_levels(w: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Map weights to level indices.

    Args:
        w: float32, any shape.
        grid: Parameters of the tensor.

    Returns:
        (levels, unrounded): integers in [-quant_max, quant_max] as float32, and the same before rounding and
        clamping, sign(w) relu(|w| - shift) / step_size. Both have the shape of `w`.
    """
    step_size = grid.scale * grid.multiplier
    shift = grid.scale * grid.offset + grid.shift
    unrounded = w.sign() * torch.relu(w.abs() - shift) / step_size
    # Adding 0 turns -0 into +0, so that levels survive a cast to int8 and back bit for bit.
    levels = unrounded.round().clamp(-grid.quant_max, grid.quant_max) + 0.0
    return levels, unrounded


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
    ) -> None:
        super().__init__()
        if bits is not None and (not _is_integer(bits) or not MIN_BITS <= bits <= MAX_BITS):
            raise ValueError(f"bits must be {MIN_BITS} to {MAX_BITS}, or None to learn them, found {bits!r}")
        if not _is_integer(max_bits) or not MIN_BITS < max_bits <= MAX_BITS:
            raise ValueError(f"max_bits must be {MIN_BITS + 1} to {MAX_BITS}, found {max_bits!r}")
        if grid not in ("integer", "paper"):
            raise ValueError(f"grid must be 'integer' or 'paper', found {grid!r}")
        if not _is_integer(grid_limit) or not 7 <= grid_limit <= 127:
            raise ValueError(f"grid_limit must be 7 to 127, found {grid_limit!r}")
        if theta_init is None:
            theta_init = TERNARY_THETA_INIT if bits == MIN_BITS else THETA_INIT
        self.bits = bits
        self.max_bits = max_bits
        self.grid = grid
        self.grid_limit = grid_limit
        self.enabled = True
        self.theta_dz = nn.Parameter(torch.tensor(float(theta_init)))
        self.theta_bit = nn.Parameter(torch.tensor(THETA_INIT)) if bits is None else None
        self.register_buffer("frozen", torch.tensor(False))
        self.register_buffer("frozen_grid", torch.zeros(len(Grid._fields)))

    def config(self) -> dict[str, int | str | None]:
        """The constructor arguments that rebuild this quantizer before its state is loaded."""
        return {"bits": self.bits, "max_bits": self.max_bits, "grid": self.grid, "grid_limit": self.grid_limit}

    def bit_width(self) -> Tensor:
        """Bits per weight, an integer in float32 `()`; the gradient of the rounding is the identity."""
        if self.theta_bit is None:
            assert self.bits is not None
            return torch.tensor(float(self.bits), device=self.theta_dz.device)
        learned = torch.tanh(self.theta_bit.float().abs()) * (self.max_bits - MIN_BITS) + MIN_BITS
        return straight_through(learned.round(), learned)

    def effective_theta(self) -> Tensor:
        """|theta_dz|, held at MIN_THETA or above; the gradient of the hold is the identity, so theta can return."""
        magnitude = self.theta_dz.float().abs()
        return straight_through(magnitude.clamp(min=MIN_THETA), magnitude)

    def collapsed(self) -> bool:
        """Whether the collapse guard is holding this layer (|theta_dz| below MIN_THETA)."""
        return bool(self.theta_dz.abs() < MIN_THETA)

    def forward(self, weight: Tensor) -> Tensor:
        """Fake-quantize a weight.

        Args:
            weight: float32 or float64, any shape. float64 is quantized in float32.

        Returns:
            The quantized weight, shape and dtype of `weight`: on the integer grid exactly `codes.float() * scale`
            of `encode`. Its gradient is the closed form of the straight-through rule: identity to `weight`, and
            to the step size and the shift (hence both thetas) level - unrounded and sign(level) - sign(weight).

        Raises:
            TypeError: Another dtype.
        """
        if not self.enabled:
            return weight
        w = _as_float32(weight)
        if bool(self.frozen):
            grid = self._frozen()
            levels, _ = quantize_levels(w.detach(), grid)
            surrogate = w
        else:
            grid, step_size, shift = self._derive(w)
            levels, unrounded = quantize_levels(w.detach(), grid)
            surrogate = w + step_size * (levels - unrounded) + shift * (levels.sign() - w.detach().sign())
        return straight_through(self._value(levels, grid), surrogate).to(weight.dtype)

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
        grid = self._frozen() if bool(self.frozen) else self._derive(w)[0]
        levels, _ = quantize_levels(w, grid)
        return WeightEncoding(
            codes=_codes(levels, grid).to(torch.int8),
            scale=grid.scale.clone(),
            bit_width=int(self.bit_width()),
            quant_max=int(grid.quant_max),
            multiplier=int(grid.multiplier),
            offset=int(grid.offset),
            shift=grid.shift.clone() if self.grid == "paper" else None,
        )

    @torch.no_grad()
    def freeze(self, weight: Tensor) -> None:
        """Fix the grid as `weight` and the thetas give it now; both thetas stop training, the weight goes on."""
        self.frozen_grid.copy_(torch.stack(self._derive(_as_float32(weight))[0]))
        self.frozen.fill_(True)
        self._hold_thetas()

    def validate_frozen(self) -> None:
        """Check a frozen grid that came from a file.

        Raises:
            ValueError: It is none that `freeze` writes; the message names the field.
        """
        if not bool(self.frozen):
            return
        grid = {name: float(value) for name, value in self._frozen()._asdict().items()}
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
        bits = self.bits if self.bits is not None else f"learned, at most {self.max_bits}"
        limit = f", grid_limit={self.grid_limit}" if self.grid == "integer" else ""
        return f"bits={bits}, grid={self.grid}{limit}"

    def _hold_thetas(self) -> None:
        for parameter in self.parameters():
            parameter.requires_grad_(False)
            parameter.grad = None

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        was_frozen = not self.frozen.is_meta and bool(self.frozen)
        super()._load_from_state_dict(*args, **kwargs)
        if self.frozen.is_meta:
            return
        if bool(self.frozen):
            self._hold_thetas()
        elif was_frozen:
            # Back to a state from before the freeze, as a training loop's own checkpoints do: the thetas train again.
            for parameter in self.parameters():
                parameter.requires_grad_(True)

    def _frozen(self) -> Grid:
        return Grid(*self.frozen_grid.float().unbind())

    def _derive(self, w: Tensor) -> tuple[Grid, Tensor, Tensor]:
        """The grid of `w` under the present thetas, and its step size and shift as functions of them."""
        bit_width = self.bit_width()
        levels_per_sign = torch.exp2(bit_width - 1) - 1
        quant_max = straight_through(levels_per_sign.round(), levels_per_sign)
        # Learned bits that arrive at 2 on the paper's grid keep the paper's range, with its large error.
        ternary = self.grid == "integer" and bool(bit_width == MIN_BITS)
        reach = abs_range(w, TERNARY_RANGE_QUANTILE if ternary else RANGE_QUANTILE)
        dead_fraction = 1 - torch.tanh(self.effective_theta())
        if self.grid == "integer":
            quant_max = straight_through(fit_quant_max(quant_max, dead_fraction, self.grid_limit), quant_max)
        half_dead_zone = reach * dead_fraction
        step_size = (reach - half_dead_zone) / (quant_max - 0.5) + STEP_EPSILON
        shift = half_dead_zone - step_size / 2
        with torch.no_grad():
            if self.grid == "paper":
                one = torch.ones_like(step_size)
                grid = Grid(step_size.detach(), one, one * 0, quant_max.detach(), shift.detach())
            else:
                # From the fraction, not from shift / step_size: the same number, free of STEP_EPSILON.
                ratio = dead_fraction / (1 - dead_fraction) * (quant_max - 0.5) - 0.5
                multiplier, offset = snap_shift(ratio, quant_max, self.grid_limit)
                scale = reach / (multiplier * quant_max + offset)
                grid = Grid(scale, multiplier, offset, quant_max.detach(), torch.zeros_like(scale))
        return grid, step_size, shift

    def _value(self, levels: Tensor, grid: Grid) -> Tensor:
        value = _codes(levels, grid) * grid.scale
        return value + grid.shift * levels.sign() if self.grid == "paper" else value


def _codes(levels: Tensor, grid: Grid) -> Tensor:
    return levels * grid.multiplier + levels.sign() * grid.offset


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
