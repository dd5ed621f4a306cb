"""Where levels are placed, by hand, and slopes against differences of the equations."""

import math

import pytest

from codeq.quantizer.grid import Grid, float32
from codeq.quantizer.placement import (
    MIN_THETA,
    TERNARY_RANGE_QUANTILE,
    place_integer_levels,
    place_paper_levels,
    range_quantile,
    slopes_by_thetas,
)

HALF = math.atanh(0.5)
"""The theta whose dead zone is half of the range."""


def test_the_paper_s_levels_by_hand() -> None:
    # Range 1, half dead zone 0.5, 7 levels: steps of 0.5 / 6.5, the first level one half step beyond the dead zone.
    grid = place_paper_levels(1.0, HALF, 4)
    step_size = 0.5 / 6.5
    assert (grid.multiplier, grid.offset, grid.quant_max) == (1, 0, 7)
    assert grid.step_size == pytest.approx(step_size)
    assert grid.full_shift == pytest.approx(0.5 - step_size / 2)


def test_integer_levels_by_hand() -> None:
    # shift / step_size is 6: the codes are 7 to 13, and the largest of them is the range.
    assert place_integer_levels(1.0, HALF, 4, 127) == Grid(float32(1 / 13), 1, 6, 7, 0.0)
    assert place_integer_levels(1.0, HALF, 8, 127).quant_max == 64  # half of the codes are in the dead zone
    assert place_integer_levels(1.0, HALF, 8, 63).quant_max == 32


def test_the_range_shrinks_at_two_bits_alone() -> None:
    assert range_quantile(3.0, 4) == range_quantile(MIN_THETA, 4) == 0.99
    assert range_quantile(3.0, 2) == range_quantile(HALF, 2) == TERNARY_RANGE_QUANTILE
    assert range_quantile(MIN_THETA, 2) == 0.99


@pytest.mark.parametrize("theta_dz", [0.9, -0.9])
@pytest.mark.parametrize("theta_bit", [0.7, -0.7])
def test_slopes_are_those_of_the_equations(theta_dz: float, theta_bit: float) -> None:
    reach, max_bits = 2.0, 8

    def equations(theta_dz: float, theta_bit: float) -> tuple[float, float]:
        bits = math.tanh(abs(theta_bit)) * (max_bits - 2) + 2  # not rounded: straight through
        half = reach * (1 - math.tanh(abs(theta_dz)))
        step_size = (reach - half) / (2 ** (bits - 1) - 1.5)
        return step_size, half - step_size / 2

    # At a theta_bit that gives whole bits, where the slopes are exact.
    theta_bit = math.copysign(math.atanh((6 - 2) / (max_bits - 2)), theta_bit)
    slopes = slopes_by_thetas(reach, 31, theta_dz, theta_bit, 6, max_bits)
    small = 1e-6
    for by, steps in (
        ((1, 0), (slopes.step_by_dz, slopes.shift_by_dz)),
        ((0, 1), (slopes.step_by_bit, slopes.shift_by_bit)),
    ):
        above = equations(theta_dz + small * by[0], theta_bit + small * by[1])
        below = equations(theta_dz - small * by[0], theta_bit - small * by[1])
        differences = [(high - low) / (2 * small) for high, low in zip(above, below, strict=True)]
        assert steps == pytest.approx(differences, rel=1e-5)


def test_the_guard_holds_the_slope_and_fixed_bits_have_none() -> None:
    held, at_guard = (slopes_by_thetas(1.0, 7, theta, None, 4, 8) for theta in (0.01, MIN_THETA))
    assert held == at_guard
    assert held.step_by_bit == held.shift_by_bit == 0
