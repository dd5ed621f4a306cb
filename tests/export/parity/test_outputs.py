"""Outputs against their bounds: each way to fail alone, and the edges of what is allowed."""

import numpy as np
import pytest

from export.parity.outputs import (
    APPROXIMATE_TOLERANCE,
    as_approximate,
    compare_output,
    compare_program,
    compare_with_reference,
    largest_difference,
    report_comparison,
    tolerance_of,
    within_tolerance,
)

pytestmark = pytest.mark.quick

LOGITS = np.array([[1.0, 2.0, 100.0], [3.0, -50.0, 2.0]], np.float32)
"""The largest magnitude is 100: the tolerance is 1e-3."""


def shifted(by: float) -> np.ndarray:
    found = LOGITS.copy()
    found[0, 0] += by
    return found


def test_equal_outputs_hold() -> None:
    check = compare_output("y", "basic", 3, LOGITS, LOGITS.copy())
    assert (check.ok, check.max_abs_error, check.argmax_differences, check.reason) == (True, 0.0, 0, "")
    assert check.tolerance == pytest.approx(1e-3)
    assert check.cosine_similarity == pytest.approx(1.0)


def test_the_tolerance_is_of_the_largest_magnitude() -> None:
    assert compare_output("y", "basic", 1, LOGITS, shifted(9e-4)).ok
    check = compare_output("y", "basic", 1, LOGITS, shifted(2e-3))
    assert (check.ok, check.reason) == (False, "max_abs_error 0.002 above 0.001")
    assert tolerance_of(-LOGITS) == pytest.approx(1e-3)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (LOGITS[:1], "shape (1, 3), expected (2, 3)"),
        (LOGITS.astype(np.float64), "dtype float64, expected float32"),
        (shifted(float("nan")), "NaN values"),
        (shifted(float("inf")), "infinite or masked values (above 5e+08) differ in 1 places"),
    ],
)
def test_what_cannot_be_compared_fails(found: np.ndarray, reason: str) -> None:
    check = compare_output("y", "basic", 1, LOGITS, found)
    assert (check.ok, check.reason, check.max_abs_error) == (False, reason, float("inf"))


def test_argmax_counts_where_the_best_two_are_further_apart_than_the_bound() -> None:
    """The bound is 1e-5: two values that it covers are one, whichever of them argmax takes."""
    tie = np.array([[1.0, 0.9999999]], np.float32)
    check = compare_output("y", "basic", 1, tie, tie[:, ::-1].copy())
    assert (check.ok, check.reason, check.argmax_differences) == (True, "", 0)
    apart = np.array([[1.0, 0.999985]], np.float32)
    found = np.array([[0.9999920, 0.9999930]], np.float32)
    check = compare_output("y", "basic", 1, apart, found)
    assert (check.ok, check.reason, check.argmax_differences) == (False, "argmax differs in 1 places", 1)
    assert within_tolerance(check).ok
    assert not within_tolerance(compare_output("y", "basic", 1, LOGITS, shifted(2e-3))).ok


def test_argmax_of_more_than_two_dimensions_is_a_figure() -> None:
    apart = np.array([[[1.0], [0.999985]]], np.float32)
    found = np.array([[[0.9999920], [0.9999930]]], np.float32)
    check = compare_output("y", "basic", 1, apart, found)
    assert (check.ok, check.argmax_differences) == (True, 1)
    dense = np.array([[[90.0], [100.0]]], np.float32)
    check = compare_with_reference("y", "basic", 1, dense, dense[:, ::-1].copy(), exact=False, fed_error=0.0)
    assert (check.ok, check.argmax_differences) == (True, 1)
    exact = compare_with_reference("y", "basic", 1, dense, dense[:, ::-1].copy(), exact=True, fed_error=0.0)
    assert (exact.ok, exact.reason) == (False, "2 elements differ from the integer reference")


MASKS = [float("-inf"), float("inf"), float(np.finfo(np.float32).min), -1e9]


@pytest.mark.parametrize("mask", MASKS)
def test_a_mask_on_both_sides_is_equal_and_sets_no_bound(mask: float) -> None:
    """Of the largest of the others, 3, the tolerance is 3e-5."""
    expected = np.array([[1.0, mask, 2.0], [mask, mask, 3.0]], np.float32)
    check = compare_output("y", "basic", 1, expected, expected.copy())
    assert (check.ok, check.max_abs_error, check.tolerance) == (True, 0.0, pytest.approx(3e-5))
    assert np.isfinite(check.cosine_similarity)
    for place, value in (((0, 0), 1.001), ((0, 1), 0.0), ((0, 0), mask), ((0, 1), -mask), ((1, 0), float("nan"))):
        wrong = expected.copy()
        wrong[place] = value
        assert not compare_output("y", "basic", 1, expected, wrong).ok, (place, value)
        assert not compare_with_reference("y", "basic", 1, expected, wrong, exact=True, fed_error=0.0).ok
        if value != 1.001:
            assert largest_difference(expected, wrong) == float("inf")
            assert not compare_with_reference("y", "basic", 1, expected, wrong, exact=False, fed_error=0.0).ok
    assert compare_with_reference("y", "basic", 1, expected, expected, exact=True, fed_error=0.0).ok
    assert compare_program([expected], [expected]) == (0.0, pytest.approx(3e-5))


def test_a_row_that_is_all_masked_is_a_tie() -> None:
    expected = np.full((2, 3), -np.inf, np.float32)
    assert compare_output("y", "basic", 1, expected, expected.copy()).ok


def test_nan_on_both_sides_fails() -> None:
    nan = shifted(float("nan"))
    assert compare_output("y", "basic", 1, nan, nan.copy()).reason == "NaN values"


@pytest.mark.parametrize("dtype", [np.int64, np.bool_])
def test_integers_must_be_equal(dtype: type) -> None:
    expected = np.array([[0, 1, 0]]).astype(dtype)
    assert compare_output("y", "basic", 1, expected, expected.copy()).ok
    check = compare_output("y", "basic", 1, expected, expected[:, [0, 0, 0]])
    assert (check.ok, check.reason) == (False, "1 elements differ")


def test_whether_a_setting_decides_is_handed_on() -> None:
    for found in (LOGITS, LOGITS[:1], shifted(float("nan"))):
        assert not compare_output("y", "basic", 1, LOGITS, found, decides=False).decides


def test_an_exact_file_is_the_reference_bit_for_bit() -> None:
    one_bit = LOGITS.copy()
    one_bit[1, 1] = np.nextafter(one_bit[1, 1], np.float32(0))
    exact = compare_with_reference("y", "basic", 1, LOGITS, one_bit, exact=True, fed_error=0.0)
    assert (exact.ok, exact.differing) == (False, 1)
    assert exact.reason == "1 elements differ from the integer reference"
    assert compare_with_reference("y", "basic", 1, LOGITS, one_bit, exact=False, fed_error=0.0).ok


def test_fed_the_same_codes_an_output_is_held_to_the_tolerance() -> None:
    assert compare_with_reference("y", "basic", 1, LOGITS, LOGITS, exact=True, fed_error=9e-4).ok
    check = compare_with_reference("y", "basic", 1, LOGITS, LOGITS, exact=True, fed_error=2e-3)
    assert not check.ok
    assert check.reason == "fed the same codes, it is off the integer reference by 0.002, above 0.001"


def test_codes_may_exchange_what_is_nearly_tied() -> None:
    """A hundredth of the largest magnitude, 100, is 1."""
    expected = np.array([[99.5, 100.0]], np.float32)
    near = compare_with_reference("y", "basic", 1, expected, expected[:, ::-1].copy(), exact=False, fed_error=0.0)
    assert (near.ok, near.argmax_differences) == (True, 0)
    expected = np.array([[98.0, 100.0]], np.float32)
    far = compare_with_reference("y", "basic", 1, expected, expected[:, ::-1].copy(), exact=False, fed_error=0.0)
    assert (far.ok, far.reason) == (False, "argmax differs in 1 places")


@pytest.mark.parametrize("found", [LOGITS[:1], LOGITS.astype(np.float64), shifted(float("nan"))])
def test_what_the_reference_cannot_be_compared_with_fails(found: np.ndarray) -> None:
    assert not compare_with_reference("y", "basic", 1, LOGITS, found, exact=False, fed_error=0.0).ok


def test_approximate_outputs_are_near() -> None:
    """A quarter of 100; argmax is counted on the inputs that were given and decides nothing."""
    for error, ok in ((20.0, True), (26.0, False)):
        found = shifted(error)
        found[1] = found[1, ::-1]
        check = compare_output("y", "basic", 1, LOGITS, found)
        loose = as_approximate(check, LOGITS, found, count=2)
        assert (loose.ok, loose.tolerance, loose.argmax_differences) == (ok, 100 * APPROXIMATE_TOLERANCE, 1)
        assert as_approximate(check, LOGITS, found, count=1).argmax_differences == 0
    wrong = shifted(float("nan"))
    assert not as_approximate(compare_output("y", "basic", 1, LOGITS, wrong), LOGITS, wrong, count=2).ok


def test_a_program_is_compared_on_the_inputs_it_has() -> None:
    error, limit = compare_program([LOGITS[:1] + 1], [LOGITS])
    assert (error, limit) == (1.0, pytest.approx(1e-3))


def test_reported_comparisons_count_inputs() -> None:
    item = report_comparison("fake-quantized", [LOGITS, LOGITS[:, 0]], [LOGITS[:, ::-1] + 0, LOGITS[:, 0] + 1], 2)
    assert (item.name, item.max_abs_error, item.argmax_differences) == ("fake-quantized", 99.0, 2)


def test_inputs_that_fill_up_a_batch_are_not_counted() -> None:
    """Two inputs, repeated to three: all three differ, two are counted."""
    repeated = LOGITS[[0, 1, 0]]
    assert report_comparison("float32", [repeated], [repeated[:, ::-1] + 0], 2).argmax_differences == 2


def test_what_has_no_difference_has_an_infinite_one() -> None:
    assert largest_difference(LOGITS, LOGITS[:1]) == float("inf")
    assert largest_difference(LOGITS, shifted(float("nan"))) == float("inf")
    assert largest_difference(LOGITS[:0], LOGITS[:0]) == 0.0
