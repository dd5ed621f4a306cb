"""Ranges: nothing is cut off at 8 bits, something is at 4, and a uniform grid has the levels of plain rounding."""

import pytest
import torch

from codeq.compress.ranges import SEARCHED_COLUMNS, SHARES, row_grid, squared_error_ranges, uniform_theta
from codeq.quantizer.dead_zone import DeadZoneQuantizer
from codeq.quantizer.placement import place_integer_levels


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 7, 8])
def test_the_uniform_grid_is_plain_symmetric_rounding(bits: int, rng: torch.Generator) -> None:
    unit = place_integer_levels(1.0, uniform_theta(bits), bits, 127)
    assert (unit.multiplier, unit.offset, unit.quant_max) == (1, 0, 2 ** (bits - 1) - 1)
    rows = torch.randn(3, 50, generator=rng)
    grid = row_grid(unit, rows.abs().amax(1))
    scale = grid.scale[:, None]
    assert torch.equal(grid.levels(rows), torch.round(rows / scale).clamp(-unit.quant_max, unit.quant_max))


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_row_grids_are_those_of_the_quantizer(bits: int, rng: torch.Generator) -> None:
    rows = torch.randn(4, 30, generator=rng)
    quantizer = DeadZoneQuantizer(bits, granularity="channel", theta_init=uniform_theta(bits))
    reach = rows.abs().amax(1) * 0.8
    quantizer.freeze_channels(reach)
    unit = quantizer.grid_at(lambda q: 1.0, quantizer.effective_theta(), bits)
    grid = row_grid(unit, reach)
    assert torch.equal(quantizer(rows), grid.values(grid.levels(rows)))


def test_ranges_have_the_least_squared_error_of_all_that_are_tried(rng: torch.Generator) -> None:
    rows = torch.cat([torch.randn(5, 200, generator=rng), torch.zeros(1, 200)])
    unit = place_integer_levels(1.0, uniform_theta(4), 4, 127)
    found = squared_error_ranges(rows, unit)
    largest = rows.abs().amax(1)
    assert bool((found[:5] < largest[:5]).all())
    assert float(found[5]) == 1

    def error(reach: torch.Tensor) -> torch.Tensor:
        grid = row_grid(unit, reach)
        return (grid.values(grid.levels(rows)) - rows).square().sum(1)

    least = torch.stack([error((largest * share).clamp(min=1e-30)) for share in SHARES]).amin(0)
    assert torch.allclose(error(found)[:5], least[:5])
    wide = squared_error_ranges(rows, place_integer_levels(1.0, uniform_theta(8), 8, 127))
    assert bool((wide[:5] >= 0.9 * largest[:5]).all())


@pytest.mark.parametrize("bits", [2, 8])
def test_of_a_wide_row_the_largest_values_are_not_overlooked(bits: int, rng: torch.Generator) -> None:
    rows = torch.randn(8, 5 * SEARCHED_COLUMNS, generator=rng)
    unit = place_integer_levels(1.0, uniform_theta(bits), bits, 127)
    largest = rows.abs().amax(1)

    def error(reach: torch.Tensor) -> torch.Tensor:
        grid = row_grid(unit, reach)
        return (grid.values(grid.levels(rows)) - rows).square().sum(1)

    least = torch.stack([error(largest * share) for share in SHARES]).amin(0)
    assert float((error(squared_error_ranges(rows, unit)) / least).max()) < 1.1
    counted = squared_error_ranges(rows, unit, torch.ones(rows.shape[1], dtype=torch.float64))
    assert torch.equal(counted, squared_error_ranges(rows, unit))


def test_what_matters_more_is_cut_off_less(rng: torch.Generator) -> None:
    rows = torch.randn(1, 64, generator=rng)
    rows[0, 0] = 5 * rows.abs().max()
    unit = place_integer_levels(1.0, uniform_theta(3), 3, 127)
    importance = torch.ones(64, dtype=torch.float64)
    plain = squared_error_ranges(rows, unit, importance)
    importance[0] = 100
    assert float(squared_error_ranges(rows, unit, importance)) >= float(plain)
    assert float(squared_error_ranges(rows, unit, importance)) == float(rows[0, 0].abs())
