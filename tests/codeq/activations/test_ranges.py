"""Ranges of activations: encodings by hand, and what each method makes of known values."""

import math
import re

import numpy as np
import pytest
import torch

from codeq.activations.encoding import QUANT_MAX, ActivationEncoding
from codeq.activations.methods import METHODS, Method
from codeq.activations.ranges import RangeObserver
from codeq.errors import CalibrationError

pytestmark = pytest.mark.quick


def observed(*batches: torch.Tensor) -> RangeObserver:
    observer = RangeObserver("layer")
    for batch in batches:
        observer.observe(batch)
    return observer


def test_min_max_takes_everything() -> None:
    encoding = observed(torch.tensor([-0.5, 1.0]), torch.tensor([3.0])).encoding("min-max")
    assert encoding == ActivationEncoding.from_range(-0.5, 3.0)


def test_percentile_cuts_the_extremes(rng: torch.Generator) -> None:
    values = torch.rand(60_000, generator=rng)
    values[7] = 1000.0
    encoding = observed(values).encoding("percentile")
    # The histogram of a range of 1000 is coarse: its second bin ends at 2 x 1024 / 2048.
    assert 0.99 < encoding.high <= 1.01


def test_least_squares_is_near_the_best_range(rng: torch.Generator) -> None:
    values = torch.randn(60_000, generator=rng) ** 3
    observer = observed(values)

    def squared_error(method: Method) -> float:
        encoding = observer.encoding(method)
        back = (encoding.quantize(values).float() - encoding.zero_point) * encoding.scale
        return float((back - values).square().sum())

    best = squared_error("mse")
    assert best < 0.95 * squared_error("min-max")
    for clip in np.linspace(0.2, 1, 30):
        encoding = ActivationEncoding.from_range(observer.low * clip, observer.high * clip)
        back = (encoding.quantize(values).float() - encoding.zero_point) * encoding.scale
        assert best <= 1.02 * float((back - values).square().sum())


def test_the_histogram_does_not_depend_on_the_order(rng: torch.Generator) -> None:
    small, large = torch.randn(999, generator=rng), 100 * torch.randn(999, generator=rng)
    one, other = observed(small, large), observed(large, small)
    assert one.reach == other.reach
    np.testing.assert_array_equal(one.counts, other.counts)
    assert one.counts.sum() == 2 * 999


def test_zeros_before_the_first_value_are_counted_as_zeros() -> None:
    observer = observed(torch.zeros(10), torch.tensor([1.0]))
    assert observer.counts.sum() == 11
    assert observer.encoding("min-max") == ActivationEncoding.from_range(0.0, 1.0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [2.0, -2.0])
def test_a_constant_is_on_its_grid(method: Method, value: float) -> None:
    encoding = observed(torch.full((100,), value)).encoding(method)
    code = int(encoding.quantize(torch.tensor(value)))
    assert abs((code - encoding.zero_point) * encoding.scale - value) <= encoding.scale / 2
    assert encoding.zero_point == (0 if value > 0 else QUANT_MAX)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [0.0, 1e-40])
def test_nothing_but_zeros_takes_any_range_and_says_so(
    method: Method, value: float, caplog: pytest.LogCaptureFixture
) -> None:
    assert observed(torch.full((5,), value)).encoding(method) == ActivationEncoding.from_range(-1.0, 1.0)
    assert "layer: every calibration input gives zeros there; its range is a guess" in caplog.text
    behind_relu = RangeObserver("layer", from_zero=True)
    behind_relu.observe(torch.zeros(5))
    assert behind_relu.encoding(method) == ActivationEncoding.from_range(0.0, 1.0)


def test_so_many_zeros_that_a_percentile_would_cut_all_else_off() -> None:
    values = torch.zeros(60_000)
    values[7] = -3.0
    assert observed(values).encoding("percentile").low == pytest.approx(-3.0)


def test_values_that_are_no_numbers_are_named() -> None:
    with pytest.raises(CalibrationError, match=r"^layer: the calibration inputs give NaN there"):
        observed(torch.tensor([1.0, math.nan]))


@pytest.mark.parametrize(
    ("value", "found"), [(math.inf, "infinite values"), (-math.inf, "infinite values"), (-3.4e38, "values of 3.4e+38")]
)
def test_values_that_no_grid_can_hold_are_named(value: float, found: str) -> None:
    observer = observed(torch.tensor([1.0, value]), torch.tensor([2.0]))
    assert observer.unfit == found
    with pytest.raises(CalibrationError, match=rf"^layer: the calibration inputs give {re.escape(found)} there, which"):
        observer.encoding("mse")
