"""Scales are found from products that were rounded to float32, exactly; what lies on no grid says how far off it is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codeq.adopt.find_scale import NEAR, codes_on, find_scale

STEPS = st.floats(2.0**-100, 2.0**100, width=32)


def products(codes: list[int], step: float) -> np.ndarray:
    return np.array(codes, np.float32) * np.float32(step)


@given(st.lists(st.integers(-127, 127), min_size=1, max_size=60), STEPS)
def test_every_product_is_found_again(codes: list[int], step: float) -> None:
    values = products(codes, step)
    fit = find_scale(values)
    if not any(codes):
        assert fit is None
        return
    assert fit is not None
    assert fit.exact
    found = codes_on(values, np.float64(fit.scale))
    assert np.abs(found).max() == fit.top <= np.abs(codes).max()
    assert np.array_equal(found.astype(np.float32) * np.float32(fit.scale), values)


@pytest.mark.parametrize(
    ("codes", "top"),
    [([3, -6, 0, 9], 3), ([2], 1), ([1, 2, 127], 127), ([5, 7, 9], 9), ([64, 128], 2), ([-128, 2, 3], 128)],
    ids=str,
)
def test_the_scale_is_the_largest(codes: list[int], top: int) -> None:
    fit = find_scale(products(codes, 0.3), limit=255)
    assert fit is not None
    assert (fit.top, fit.exact) == (top, True)


def test_codes_beyond_the_limit_are_not_found_within_it() -> None:
    values = products(list(range(-128, 100)), 0.3)
    fit, wide = find_scale(values), find_scale(values, limit=255)
    assert fit is not None
    assert wide is not None
    assert (fit.exact, wide.exact, wide.top) == (False, True, 128)
    assert 0.4 < fit.deviation <= 0.5


def test_a_rounding_error_is_told_from_no_grid() -> None:
    rng = np.random.default_rng(0)
    w = rng.standard_normal(500).astype(np.float32)
    step = np.float32(0.1)
    noisy = w + ((w / step).round().clip(-7, 7) * step - w)  # what a straight-through estimator may return
    fit = find_scale(noisy)
    assert fit is not None
    assert not fit.exact
    assert 0 < fit.deviation < NEAR
    assert fit.top == 7
    plain = find_scale(w)
    assert plain is not None
    assert plain.deviation > 0.4


def test_a_value_that_is_a_denormal_has_no_scale_of_ours() -> None:
    fit = find_scale(products([1, 2, 3], 1e-40))
    assert fit is None or not fit.exact
