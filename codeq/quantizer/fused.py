"""Compute the quantizer as one autograd function: few passes over memory, nothing kept for backward but the weight.

Values are those of levels.py, bit for bit; gradients are those of its straight-through rule in closed form. With g the
gradient of the quantized weight, u the unrounded level and k the level,

    dL/dw = g      dL/dstep_size = sum g (k - u)      dL/dshift = sum g (sign k - sign w)

and the chain rule on to the thetas is four numbers. The sums over a weight are computed in one of two ways:

- eager: in place, on chunks that stay in the second-level cache, so that memory is read once however many operators;
- compiled: `torch.compile` on flattened tensors with dynamic sizes, one program for every weight. Compiling takes
  seconds, so it serves weights of at least COMPILE_NUMEL elements only, and only where a compiler is found.
"""

import logging
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from codeq.errors import first_line
from codeq.quantizer.grid import Grid, float32
from codeq.quantizer.levels import dequantize_levels, quantize_levels
from codeq.toolkit.quiet import quiet_torch

logger = logging.getLogger(__name__)

COMPILE_NUMEL = 2**16
CHUNK_NUMEL = 2**16
"""256 kB of float32 for each of the tensors that an eager chunk touches."""


class Slopes(NamedTuple):
    """Holds the derivatives of step size and shift by the two thetas; those by theta_bit are 0 at fixed bits."""

    step_by_dz: float
    shift_by_dz: float
    step_by_bit: float = 0.0
    shift_by_bit: float = 0.0

    def scaled(self, factor: float) -> "Slopes":
        """Multiply all of them by a factor."""
        return Slopes(*(slope * factor for slope in self))


class _Numbers(NamedTuple):
    """Holds what the kernels read of a grid, in the order of their tensor argument."""

    inverse_step: float
    shift: float
    quant_max: float
    multiplier: float
    offset: float
    scale: float
    rest: float

    @classmethod
    def of(cls, grid: Grid) -> "_Numbers":
        """Read them from a grid."""
        return cls(
            inverse_step=float32(1 / grid.step_size),
            shift=grid.full_shift,
            quant_max=float(grid.quant_max),
            multiplier=float(grid.multiplier),
            offset=float(grid.offset),
            scale=grid.scale,
            rest=grid.shift,
        )


def levels_of(w: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Compute `quantize_levels` on a grid: (levels, unrounded), float32 with the shape of `w`."""
    numbers = _Numbers.of(grid)
    return quantize_levels(w, numbers.inverse_step, numbers.shift, numbers.quant_max)


def fused_quantize(w: Tensor, theta_dz: Tensor, theta_bit: Tensor | None, grid: Grid, slopes: Slopes | None) -> Tensor:
    """Fake-quantize a weight.

    Args:
        w: float32, any shape.
        theta_dz, theta_bit: What the grid was derived from; they get gradients.
        grid: Where the levels lie.
        slopes: How the grid moves with the thetas; None on a frozen grid, where they get none.

    Returns:
        The quantized weight, with the shape of `w`.
    """
    value: Tensor = _FusedQuantize.apply(w, theta_dz, theta_bit, _Numbers.of(grid), slopes)
    return value


class _FusedQuantize(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, w: Tensor, theta_dz: Tensor, theta_bit: Tensor | None, numbers: _Numbers, slopes: Slopes | None
    ) -> Tensor:
        ctx.numbers, ctx.slopes = numbers, slopes
        if slopes is not None:
            ctx.save_for_backward(w, theta_dz, theta_bit)
        w = _dense(w)
        compiled = _compiled_for(w)
        if compiled is not None:
            flat = _attempt(compiled.value, _flatten(w), _tensor_of(numbers, w))
            if flat is not None:
                return flat.as_strided(w.size(), w.stride())
        value = torch.empty_like(w)
        for part, out in zip(_chunks(w), _chunks(value), strict=True):
            _value_in_place(part, numbers, out)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.slopes is None:
            return gradient, None, None, None, None
        w, theta_dz, theta_bit = ctx.saved_tensors
        w = _dense(w)
        g = gradient if gradient.stride() == w.stride() else torch.empty_like(w).copy_(gradient)
        compiled, sums = _compiled_for(w), None
        if compiled is not None:
            sums = _attempt(compiled.sums, _flatten(w), _flatten(g), _tensor_of(ctx.numbers, w))
        if sums is None:
            parts = [_sums_in_place(*chunks, ctx.numbers) for chunks in zip(_chunks(w), _chunks(g), strict=True)]
            sums = torch.stack([torch.stack(part) for part in parts]).sum(0)
        slopes = ctx.slopes
        by_dz = _chain(sums, slopes.step_by_dz, slopes.shift_by_dz, theta_dz)
        by_bit = None if theta_bit is None else _chain(sums, slopes.step_by_bit, slopes.shift_by_bit, theta_bit)
        return gradient, by_dz, by_bit, None, None


def _chain(sums: Tensor, step_slope: float, shift_slope: float, theta: Tensor) -> Tensor:
    """The gradient of a theta, `()`, from those of step size and shift, `(2,)`."""
    if sums.device.type == "cpu":  # reading them costs less than an operator; on a GPU it would wait for the queue
        by_step, by_shift = sums.tolist()
        return torch.tensor(by_step * step_slope + by_shift * shift_slope, dtype=theta.dtype, device=theta.device)
    return (sums[0] * step_slope + sums[1] * shift_slope).to(theta.dtype)


def _value_in_place(w: Tensor, numbers: _Numbers, out: Tensor) -> None:
    """`dequantize_levels` of `quantize_levels`, the same operations in the same order, within two buffers."""
    sign = w.sign()
    torch.abs(w, out=out).sub_(numbers.shift).clamp_(min=0).mul_(numbers.inverse_step)
    out.mul_(sign).round_().clamp_(-numbers.quant_max, numbers.quant_max).add_(0.0)
    torch.sign(out, out=sign)
    out.mul_(numbers.multiplier).add_(sign, alpha=numbers.offset).mul_(numbers.scale)
    if numbers.rest:
        out.add_(sign, alpha=numbers.rest)


def _sums_in_place(w: Tensor, g: Tensor, numbers: _Numbers) -> tuple[Tensor, Tensor]:
    """Compute (sum g (k - u), sum g (sign k - sign w)) on magnitudes: k, u and w have one sign, where k has any."""
    signed = w.sign().mul_(g)
    unrounded = w.abs().sub_(numbers.shift).clamp_(min=0).mul_(numbers.inverse_step)
    levels = unrounded.round().clamp_(max=numbers.quant_max)
    by_step = torch.dot(signed, torch.sub(levels, unrounded, out=unrounded))
    return by_step, torch.dot(signed, levels.clamp_(max=1).sub_(1))


def _value(w: Tensor, numbers: Tensor) -> Tensor:
    inverse_step, shift, quant_max, multiplier, offset, scale, rest = numbers.unbind()
    levels, _ = quantize_levels(w, inverse_step, shift, quant_max)
    return dequantize_levels(levels, multiplier, offset, scale, rest)


def _sums(w: Tensor, g: Tensor, numbers: Tensor) -> Tensor:
    levels, unrounded = quantize_levels(w, *numbers[:3].unbind())
    return torch.stack([(g * (levels - unrounded)).sum(), (g * (levels.sign() - w.sign())).sum()])


def _chunks(tensor: Tensor) -> Iterator[Tensor]:
    whole = tensor.device.type != "cpu" or torch.compiler.is_compiling()
    return iter(_flatten(tensor).split(tensor.numel() if whole else CHUNK_NUMEL))


def _dense(w: Tensor) -> Tensor:
    """The same values in memory without gaps, in whatever order of dimensions."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    if w.is_contiguous() or (w.ndim in formats and w.is_contiguous(memory_format=formats[w.ndim])):
        return w
    return w.contiguous()


def _flatten(dense: Tensor) -> Tensor:
    """A view in memory order."""
    return dense.as_strided((dense.numel(),), (1,))


def _tensor_of(numbers: _Numbers, w: Tensor) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float32, device=w.device)


class _Compiled(NamedTuple):
    value: Callable[[Tensor, Tensor], Tensor]
    sums: Callable[[Tensor, Tensor, Tensor], Tensor]


class _Setting:
    compile = True


def set_compile(enabled: bool) -> None:
    """Allow or forbid `torch.compile` for the operator in this process; it is allowed at the start.

    Values do not depend on it. Where no compiler is found the eager way is taken, and a message logged.
    """
    _Setting.compile = enabled


def _compiled_for(w: Tensor) -> _Compiled | None:
    if w.numel() < COMPILE_NUMEL or not _Setting.compile or torch.compiler.is_compiling():
        return None
    return _compile(w.device.type)


def _attempt(kernel: Callable[..., Tensor], *tensors: Tensor) -> Tensor | None:
    """Run a compiled kernel. Where it fails, as it may for a size it is compiled anew for, all go the eager way."""
    try:
        return kernel(*tensors)
    except torch.OutOfMemoryError:
        raise  # the eager way needs as much
    except Exception as error:  # as in _compile
        logger.warning("the compiled quantizer failed, the slower one goes on (%s)", first_line(error))
        set_compile(False)
        return None


@cache
def _compile(device: str) -> _Compiled | None:
    """Compile both kernels and try them once on a small tensor; None where they cannot be compiled."""
    trial = torch.linspace(-1, 1, COMPILE_NUMEL, device=device)
    numbers = torch.ones(len(_Numbers._fields), device=device)
    try:
        with quiet_torch(), torch.no_grad():
            compiled = _Compiled(torch.compile(_value, dynamic=True), torch.compile(_sums, dynamic=True))
            compiled.value(trial, numbers)
            compiled.sums(trial, trial, numbers)
    except Exception as error:  # whatever a compiler, its absence or its cache folder raises: the eager way is as good
        logger.info("the quantizer is not compiled on %s (%s)", device, first_line(error))
        return None
    return compiled
