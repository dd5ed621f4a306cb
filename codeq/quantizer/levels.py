"""Map weights to level indices and level indices to values: the operator's definition, element by element.

    unrounded = sign(w) relu(|w| - shift) / step_size
    level     = clamp(round(unrounded), -quant_max, quant_max)
    code      = multiplier * level + offset * sign(level)
    value     = scale * code + rest * sign(level)

Source: Wenshøj et al. 2025, arXiv:2512.12981, for the level; grid.py for the code. `rest` is what the codes leave of
the shift: nothing on the integer grid, all of it on the paper's. Parameters are float32 values: Python floats, or
tensors `()`.
"""

import torch
from torch import Tensor

Scalar = float | Tensor


def quantize_levels(w: Tensor, inverse_step: Scalar, shift: Scalar, quant_max: Scalar) -> tuple[Tensor, Tensor]:
    """Map weights to level indices.

    Args:
        w: float32, any shape.
        inverse_step: 1 / step_size.
        shift: (dead_zone - step_size) / 2, weight units.
        quant_max: Levels per sign.

    Returns:
        (levels, unrounded): integers in [-quant_max, quant_max] as float32, and the same before rounding and clamping.
        Both have the shape of `w`.
    """
    unrounded = w.sign() * (torch.relu(w.abs() - shift) * inverse_step)
    # Adding 0 turns -0 into +0, so that levels survive a cast to int8 and back bit for bit.
    levels = unrounded.round().clamp(-quant_max, quant_max) + 0.0  # type: ignore[arg-type]
    return levels, unrounded


def dequantize_levels(levels: Tensor, multiplier: Scalar, offset: Scalar, scale: Scalar, rest: Scalar) -> Tensor:
    """Map level indices to values, float32, with the shape of `levels`.

    Args:
        levels: Integers as float32.
        multiplier, offset: code = multiplier * level + offset * sign(level).
        scale: Weight units per code.
        rest: What the codes leave of the shift, weight units.
    """
    sign = levels.sign()
    return (levels * multiplier + sign * offset) * scale + sign * rest
