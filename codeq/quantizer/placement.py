"""Place the levels of a weight: from its range, the thetas and the bits to a grid, and how that moves with the thetas.

    half_dead_zone = R (1 - tanh theta)                             R is the range, a quantile of |w|
    step_size      = (R - half_dead_zone) / (quant_max - 1/2) + 1e-8
    shift          = half_dead_zone - step_size / 2

Plain numbers, no tensors: the derivatives are those of these equations, with the rounding of bits and the hold of theta
passed straight through. Source: Wenshøj et al. 2025, arXiv:2512.12981.
"""

import math

from codeq.quantizer.abs_range import RANGE_QUANTILE
from codeq.quantizer.choices import MIN_BITS, MIN_THETA
from codeq.quantizer.fused import Slopes
from codeq.quantizer.grid import Grid, fit_quant_max, float32, snap_shift

TERNARY_RANGE_QUANTILE = 0.78
TERNARY_DEAD_FRACTION = 0.5
TERNARY_THETA_INIT = 0.55
"""At 2 bits the one level per sign sits on the range itself, so the paper's start (theta = 3, 0.99 quantile) sends
every survivor to the largest weight: relative squared error 3.4. The least-squares ternary quantizer of a Gaussian
has its level at 1.22 sigma, the 0.78 quantile of |w|, and its threshold at half of that, theta = 0.55: error 0.19.
With a wider dead zone the survivors are larger, and the range grows to the 0.99 quantile at the collapse guard: zeros
would else end at 64 %. In steps of 0.01, so that a range can be kept while theta moves."""
STEP_EPSILON = 1e-8


def range_quantile(theta: float, bits: int) -> float:
    """Choose the quantile of |w| that is the range on the integer grid: 0.99, and less at 2 bits.

    Args:
        theta: |theta_dz|, at least MIN_THETA.
        bits: 2 to 8.
    """
    if bits != MIN_BITS:
        return RANGE_QUANTILE
    widest = 1 - math.tanh(MIN_THETA)
    share = max(0.0, (1 - math.tanh(theta) - TERNARY_DEAD_FRACTION) / (widest - TERNARY_DEAD_FRACTION))
    return round(TERNARY_RANGE_QUANTILE + share * (RANGE_QUANTILE - TERNARY_RANGE_QUANTILE), 2)


def place_paper_levels(reach: float, theta: float, bits: int) -> Grid:
    """Place the levels where the equations above put them, on a grid with a shift of its own.

    Args:
        reach: The range of the weight, weight units.
        theta: |theta_dz|, at least MIN_THETA.
        bits: 2 to 8.
    """
    quant_max = 2 ** (bits - 1) - 1
    half_dead_zone = reach * (1 - math.tanh(theta))
    step_size = (reach - half_dead_zone) / (quant_max - 0.5) + STEP_EPSILON
    return Grid(float32(step_size), 1, 0, quant_max, float32(half_dead_zone - step_size / 2))


def place_integer_levels(reach: float, theta: float, bits: int, grid_limit: int) -> Grid:
    """Place the levels on integer codes: shift / step_size snapped, and as many levels as fit (grid.py).

    Args:
        reach, theta, bits: As for `place_paper_levels`.
        grid_limit: Largest code magnitude.
    """
    dead_fraction = 1 - math.tanh(theta)
    quant_max = fit_quant_max(2 ** (bits - 1) - 1, dead_fraction, grid_limit)
    # From the fraction, not from shift / step_size: the same number, free of STEP_EPSILON.
    ratio = dead_fraction / (1 - dead_fraction) * (quant_max - 0.5) - 0.5
    multiplier, offset = snap_shift(ratio, quant_max, grid_limit)
    return Grid(float32(reach / (multiplier * quant_max + offset)), multiplier, offset, quant_max, 0.0)


def slopes_by_thetas(
    reach: float, quant_max: int, theta_dz: float, theta_bit: float | None, bits: int, max_bits: int
) -> Slopes:
    """Differentiate step size and shift by the thetas, at a grid with `quant_max` levels per sign.

    Args:
        reach: The range of the weight, weight units.
        quant_max: Levels per sign of its grid.
        theta_dz: As trained; below MIN_THETA in magnitude the slopes are those at MIN_THETA.
        theta_bit: As trained; None at fixed bits.
        bits: The rounded bit width.
        max_bits: Upper end of learned bits.
    """
    theta = max(abs(theta_dz), MIN_THETA)
    half_dead_zone = reach * (1 - math.tanh(theta))
    half_by_dz = -reach * _tanh_slope(theta) * math.copysign(1, theta_dz)
    step_by_dz = -half_by_dz / (quant_max - 0.5)
    step_by_bit = 0.0
    if theta_bit is not None:
        bits_by_theta = _tanh_slope(theta_bit) * (max_bits - MIN_BITS) * math.copysign(1, theta_bit)
        quant_max_by_bits = math.log(2) * 2 ** (bits - 1)
        step_by_bit = -(reach - half_dead_zone) / (quant_max - 0.5) ** 2 * quant_max_by_bits * bits_by_theta
    return Slopes(step_by_dz, half_by_dz - step_by_dz / 2, step_by_bit, -step_by_bit / 2)


def _tanh_slope(x: float) -> float:
    return 1 - math.tanh(x) ** 2
