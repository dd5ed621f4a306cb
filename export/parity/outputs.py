"""Outputs are compared with what PyTorch computes: the bounds of the contract, and the comparisons that apply them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from export.parity.checks import OutputCheck, ReportedComparison

RELATIVE_TOLERANCE = 1e-5
"""It is a share of the largest output magnitude: float32 sums in another order, through many layers, stay below it."""
NEAR_TIE = 1e-2
"""It is a share of the largest output magnitude: outputs that one step of one layer can exchange."""
APPROXIMATE_TOLERANCE = 0.25
"""It is a share of the largest output magnitude, where a runtime quantizes floats itself and says nothing about how."""
SET_APART = 5e8
"""Magnitudes above it are a mask's (-1e9, the smallest float, -inf), set and not computed: they must be there on both
sides, and they would make a tolerance for all others within which anything is right."""
BATCH_SIZES = (1, 3)
"""At which every file is held, where its batch is open."""


def compare_output(
    name: str, setting: str, batch_size: int, expected: np.ndarray, found: np.ndarray, *, decides: bool = True
) -> OutputCheck:
    """Judge one output: within RELATIVE_TOLERANCE of its largest magnitude, with the same argmax (axis 1).

    Argmax is judged where it picks one of two dimensions, and counts only where the best two expected values are
    further apart than the tolerance. What is set apart, such as infinities, must be there on both sides. Integer and
    boolean outputs must be equal. NaN, a wrong shape or a wrong dtype fails.
    """
    if found.shape != expected.shape:
        reason = f"shape {found.shape}, expected {expected.shape}"
        return OutputCheck.failed(name, setting, batch_size, reason, decides=decides)
    if found.dtype != expected.dtype:
        reason = f"dtype {found.dtype}, expected {expected.dtype}"
        return OutputCheck.failed(name, setting, batch_size, reason, decides=decides)
    if not np.issubdtype(expected.dtype, np.floating):
        different = int(np.count_nonzero(expected != found))
        reason = f"{different} elements differ" if different else ""
        error = float(bool(different))
        return OutputCheck(name, setting, batch_size, error, 0.0, 1.0, 0, not different, reason, decides)
    reason = incomparable(expected, found)
    if reason:
        return OutputCheck.failed(name, setting, batch_size, reason, decides=decides)
    error, tolerance = largest_difference(expected, found), tolerance_of(expected)
    differences = argmax_differences(expected, found, tolerance)
    if error > tolerance:
        reason = f"max_abs_error {error:.3g} above {tolerance:.3g}"
    elif differences and expected.ndim == 2:
        reason = f"argmax differs in {differences} places"
    cosine = _cosine(expected, found)
    return OutputCheck(name, setting, batch_size, error, tolerance, cosine, differences, not reason, reason, decides)


def compare_with_reference(
    name: str,
    setting: str,
    batch_size: int,
    expected: np.ndarray,
    found: np.ndarray,
    *,
    exact: bool,
    fed_error: float,
    decides: bool = True,
) -> OutputCheck:
    """Judge one output of a file that computes on codes, end to end, against the integer reference.

    Args:
        name, setting, batch_size: Of the check.
        expected: What the reference computes.
        found: What the runtime computes.
        exact: Whether the reference follows every kernel bit for bit: then no element may differ. Else the argmax
            (axis 1) of an output of two dimensions must be the reference's, unless the reference's best two are closer
            than NEAR_TIE of the largest.
        fed_error: How far the output is from that of a reference that was fed the runtime's codes.
        decides: As in `OutputCheck`.
    """
    tolerance = tolerance_of(expected)
    error = largest_difference(expected, found)
    differing = expected.size if expected.shape != found.shape else int(np.count_nonzero(found != expected))
    differences, cosine, reason = 0, 0.0, ""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        reason = f"is {found.dtype} {found.shape}, expected {expected.dtype} {expected.shape}"
    elif not np.isfinite(error):
        reason = incomparable(expected, found)
    elif fed_error > tolerance:
        reason = f"fed the same codes, it is off the integer reference by {fed_error:.3g}, above {tolerance:.3g}"
    elif exact and differing:
        reason = f"{differing} elements differ from the integer reference"
    elif np.issubdtype(expected.dtype, np.floating):
        differences = argmax_differences(expected, found, NEAR_TIE * largest_magnitude(expected))
        if differences and expected.ndim == 2:
            reason = f"argmax differs in {differences} places"
    if np.isfinite(error):
        cosine = _cosine(expected, found)
    return OutputCheck(
        name,
        setting,
        batch_size,
        error,
        tolerance,
        cosine,
        differences,
        ok=not reason,
        reason=reason,
        decides=decides,
        differing=differing,
        fed_error=fed_error,
    )


def within_tolerance(check: OutputCheck) -> OutputCheck:
    """Let the tolerance alone decide.

    Sums of codes tie often, and float32 sums in another order break ties another way.
    """
    return replace(check, ok=True, reason="") if check.max_abs_error <= check.tolerance else check


def as_approximate(check: OutputCheck, expected: np.ndarray, found: np.ndarray, count: int) -> OutputCheck:
    """Hold an output to APPROXIMATE_TOLERANCE.

    Args:
        check: From `compare_output`.
        expected, found: As there.
        count: Inputs, without those that fill up a batch: argmax is counted on them and decides nothing.
    """
    if not np.isfinite(check.max_abs_error):
        return check
    tolerance = APPROXIMATE_TOLERANCE * largest_magnitude(expected)
    differences = 0
    if expected.ndim > 1:
        off = expected[:count].argmax(1) != found[:count].argmax(1)
        differences = int(off.reshape(len(off), -1).any(1).sum())
    reason = "" if check.max_abs_error <= tolerance else f"off by {check.max_abs_error:.3g}, above {tolerance:.3g}"
    return replace(check, tolerance=tolerance, argmax_differences=differences, ok=not reason, reason=reason)


def compare_program(found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> tuple[float, float]:
    """Compare a reference program with its network before activations are quantized.

    Args:
        found: The program's outputs for the first inputs.
        expected: The network's, for those and more.

    Returns:
        The largest difference of any output, and what float32 sums in another order may make of it.
    """
    error = max(largest_difference(ours[: len(theirs)], theirs) for ours, theirs in zip(expected, found, strict=True))
    return error, max(tolerance_of(ours) for ours in expected)


def report_comparison(
    name: str, reference: Sequence[np.ndarray], other: Sequence[np.ndarray], count: int
) -> ReportedComparison:
    """Say how far another way of computing a network is from the integer reference.

    Args:
        name: Of the other way.
        reference, other: Outputs for all inputs.
        count: Inputs, without those that fill up a batch: argmax is counted on them.
    """
    error = max(largest_difference(a, b) for a, b in zip(reference, other, strict=True))
    differing = [
        int((a.argmax(1) != b.argmax(1)).reshape(len(a), -1).any(1)[:count].sum())
        for a, b in zip(reference, other, strict=True)
        if a.ndim > 1
    ]
    return ReportedComparison(name, error, max(differing, default=0))


def argmax_differences(expected: np.ndarray, found: np.ndarray, bound: float) -> int:
    """Count the places where argmax (axis 1) differs and the best two expected values are more than a bound apart."""
    if expected.ndim < 2:
        return 0
    off = expected.argmax(1) != found.argmax(1)
    if not off.any():
        return 0
    best = np.sort(np.moveaxis(expected, 1, -1)[off].astype(np.float64), axis=1)[:, -2:]
    with np.errstate(invalid="ignore"):  # two equal infinities have no distance: a tie
        return int((best[:, 1] - best[:, 0] > bound).sum())


def tolerance_of(expected: np.ndarray) -> float:
    """Give what an output may be off by where floats are summed in another order."""
    return RELATIVE_TOLERANCE * largest_magnitude(expected)


def largest_magnitude(expected: np.ndarray) -> float:
    """Give the largest magnitude of an output, without what is set apart; 0 where nothing else is there."""
    return float(np.abs(expected[_computed(expected)].astype(np.float64)).max(initial=0))


def incomparable(expected: np.ndarray, found: np.ndarray) -> str:
    """Say why two float arrays of one shape have no difference that is a number; empty where they have one."""
    if np.isnan(expected).any() or np.isnan(found).any():
        return "NaN values"
    unequal = _parted(expected, found)
    return f"infinite or masked values (above {SET_APART:.0e}) differ in {unequal} places" if unequal else ""


def largest_difference(expected: np.ndarray, found: np.ndarray) -> float:
    """Give the largest difference of any element; infinite where the two cannot be compared."""
    if expected.shape != found.shape or _parted(expected, found):
        return float("inf")
    computed = _computed(expected)
    return float(np.abs(expected[computed].astype(np.float64) - found[computed].astype(np.float64)).max(initial=0))


def _computed(values: np.ndarray) -> np.ndarray:
    """Where values are neither set apart nor NaN; all of those that are no floats."""
    if not np.issubdtype(values.dtype, np.floating):
        return np.ones(values.shape, np.bool_)
    return np.asarray(np.abs(values) <= SET_APART)


def _parted(expected: np.ndarray, found: np.ndarray) -> int:
    """Count the elements that are set apart, or NaN, and not on both sides alike, each within its own tolerance."""
    outside = ~(_computed(expected) & _computed(found))
    ours, theirs = (values[outside].astype(np.float64) for values in (expected, found))
    return int(np.count_nonzero(~np.isclose(theirs, ours, rtol=RELATIVE_TOLERANCE, atol=0)))


def _cosine(expected: np.ndarray, found: np.ndarray) -> float:
    computed = _computed(expected)
    first, second = (values[computed].astype(np.float64) for values in (expected, found))
    norms = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float((first * second).sum() / norms) if norms else 1.0
