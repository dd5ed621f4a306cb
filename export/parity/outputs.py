"""Outputs are compared with what PyTorch computes: the bounds of the contract, and the comparisons that apply them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from export.parity.checks import OutputCheck, ReportedComparison

RELATIVE_TOLERANCE = 1e-5
"""Of the largest output magnitude: float32 sums in another order, through some tens of layers, stay well below it."""
NEAR_TIE = 1e-2
"""Of the largest output magnitude: outputs that one step of one layer can exchange."""
APPROXIMATE_TOLERANCE = 0.25
"""Of the largest output magnitude, where a runtime quantizes floats itself and says nothing about how."""
BATCH_SIZES = (1, 3)
"""At which every file is held, where its batch is open."""


def compare_output(
    name: str, setting: str, batch_size: int, expected: np.ndarray, found: np.ndarray, *, decides: bool = True
) -> OutputCheck:
    """Judge one output: within RELATIVE_TOLERANCE of its largest magnitude, with the same argmax (axis 1).

    Integer and boolean outputs must be equal. NaN, a wrong shape or a wrong dtype fails.
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
    if not (np.isfinite(found).all() and np.isfinite(expected).all()):
        return OutputCheck.failed(name, setting, batch_size, "NaN or infinite values", decides=decides)
    wide, other = expected.astype(np.float64), found.astype(np.float64)
    error = float(np.abs(wide - other).max(initial=0))
    tolerance = tolerance_of(expected)
    cosine = _cosine(wide, other)
    differences = int((expected.argmax(1) != found.argmax(1)).sum()) if expected.ndim > 1 else 0
    reason = ""
    if error > tolerance:
        reason = f"max_abs_error {error:.3g} above {tolerance:.3g}"
    elif differences:
        reason = f"argmax differs in {differences} places"
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
) -> OutputCheck:
    """Judge one output of a file that computes on codes, end to end, against the integer reference.

    Args:
        name, setting, batch_size: Of the check.
        expected: What the reference computes.
        found: What the runtime computes.
        exact: Whether the reference follows every kernel bit for bit: then no element may differ. Else the argmax
            (axis 1) must be the reference's, where outputs closer than NEAR_TIE of the largest count as equal.
        fed_error: How far the output is from that of a reference that was fed the runtime's codes.
    """
    largest = float(np.abs(expected.astype(np.float64)).max(initial=0))
    tolerance = RELATIVE_TOLERANCE * largest
    error = largest_difference(expected, found)
    differing = expected.size if expected.shape != found.shape else int(np.count_nonzero(found != expected))
    differences, cosine, reason = 0, 0.0, ""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        reason = f"is {found.dtype} {found.shape}, expected {expected.dtype} {expected.shape}"
    elif not np.isfinite(error):
        reason = "NaN or infinite values"
    elif fed_error > tolerance:
        reason = f"fed the same codes, it is off the integer reference by {fed_error:.3g}, above {tolerance:.3g}"
    elif exact and differing:
        reason = f"{differing} elements differ from the integer reference"
    elif expected.ndim > 1 and np.issubdtype(expected.dtype, np.floating):
        ours, theirs = expected.argmax(1), found.argmax(1)
        differences = int((ours != theirs).sum())
        margin = np.take_along_axis(expected, ours[:, None], 1) - np.take_along_axis(expected, theirs[:, None], 1)
        disputed = int((margin > NEAR_TIE * largest).sum())
        reason = f"argmax differs in {disputed} places" if disputed else ""
    if np.isfinite(error):
        cosine = _cosine(expected.astype(np.float64), found.astype(np.float64))
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
    tolerance = APPROXIMATE_TOLERANCE * float(np.abs(expected.astype(np.float64)).max(initial=0))
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


def report_comparison(name: str, reference: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> ReportedComparison:
    """Say how far another way of computing a network is from the integer reference."""
    error = max(largest_difference(a, b) for a, b in zip(reference, other, strict=True))
    differing = [
        int((a.argmax(1) != b.argmax(1)).reshape(len(a), -1).any(1).sum())
        for a, b in zip(reference, other, strict=True)
        if a.ndim > 1
    ]
    return ReportedComparison(name, error, max(differing, default=0))


def tolerance_of(expected: np.ndarray) -> float:
    """Give what an output may be off by where floats are summed in another order."""
    return RELATIVE_TOLERANCE * float(np.abs(expected.astype(np.float64)).max(initial=0))


def largest_difference(expected: np.ndarray, found: np.ndarray) -> float:
    """Give the largest difference of any element; infinite where the two cannot be compared."""
    if expected.shape != found.shape or not (np.isfinite(expected).all() and np.isfinite(found).all()):
        return float("inf")
    return float(np.abs(expected.astype(np.float64) - found.astype(np.float64)).max(initial=0))


def _cosine(first: np.ndarray, second: np.ndarray) -> float:
    norms = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float((first * second).sum() / norms) if norms else 1.0
