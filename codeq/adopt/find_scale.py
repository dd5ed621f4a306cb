"""Find the scale of which values are integer multiples, to the bit: what a fake-quantized weight no longer says.

    values[i] == float32(codes[i] * scale)        |codes[i]| <= 127

Every tool that fake-quantizes computes this product last, in float32. With the magnitudes a_1 < ... < a_n and c the
code of a_n, the others have the codes round(c a_i / a_n): each c up to the limit is tried, the smallest first, which
gives the largest scale. A product that rounds to a_i leaves an interval for the scale; the float32 numbers where all of
them meet are few, and each is tried by computing the products.
"""

from dataclasses import dataclass

import numpy as np

CODE_LIMIT = 127
WIDE_LIMIT = 255
"""Codes less a zero point can be as large: what no int8 code holds, and a message should tell apart from no grid."""
NEAR = 1e-4
"""How far from an integer, in steps, the quotients of float32 numbers on one grid may be: 255 * 2^-23, with room."""
SAMPLE = 64
"""Magnitudes that every scale is tried on first: of a float weight they leave none."""


@dataclass(frozen=True)
class Fit:
    """Says how well values lie on a grid.

    Attributes:
        scale: A float32 value; of the nearest grid where `exact` is not given.
        top: Code of the largest magnitude.
        exact: Whether every value is float32(code * scale).
        deviation: Largest distance of a value from a code, in steps.
    """

    scale: float
    top: int
    exact: bool
    deviation: float


def find_scale(values: np.ndarray, limit: int = CODE_LIMIT) -> Fit | None:
    """Find the largest scale of which all values are integer multiples.

    Args:
        values: float32, any shape, finite.
        limit: Largest code.

    Returns:
        The fit: exact, or else of all values within NEAR, or else the best; None where all values are zero.
    """
    magnitudes = np.unique(np.abs(values))
    magnitudes = magnitudes[magnitudes > 0]
    if not len(magnitudes):
        return None
    tops = np.arange(1, limit + 1)
    ratios = magnitudes.astype(np.float64) / float(magnitudes[-1])
    tops_near = tops[_off(tops, ratios[:: max(1, len(ratios) // SAMPLE)]) < NEAR]
    near: Fit | None = None
    for top in tops_near:
        deviation = float(_off(np.array([top]), ratios)[0])
        if deviation < NEAR:
            scale = _exact_scale(magnitudes, (top * ratios).round()) if len(magnitudes) <= limit else None
            if scale is not None:
                return Fit(float(scale), int(top), True, 0.0)
            near = near or Fit(float(np.float32(magnitudes[-1] / top)), int(top), False, deviation)
    if near is not None:
        return near
    top = limit if len(magnitudes) > limit else int(tops[_off(tops, ratios).argmin()])
    return Fit(float(magnitudes[-1]) / top, top, False, float(_off(np.array([top]), ratios)[0]))


def _off(tops: np.ndarray, ratios: np.ndarray) -> np.ndarray:
    """Measure how far magnitudes are from codes, in steps, for each code of the largest; a code of 0 is half off."""
    steps = np.outer(tops, ratios)
    codes = steps.round()
    return np.asarray(np.where(codes < 1, 0.5, np.abs(steps - codes)).max(1))


def codes_on(values: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Give the nearest codes of float32 values on a scale that broadcasts against them, int64 with their shape."""
    return (values.astype(np.float64) / scale).round().astype(np.int64)


def _exact_scale(magnitudes: np.ndarray, codes: np.ndarray) -> np.float32 | None:
    """Find a normal float32 number of which all magnitudes are the multiples, rounded to float32."""
    a = magnitudes.astype(np.float64)
    half = np.spacing(magnitudes).astype(np.float64) / 2
    low, high = np.max((a - half) / codes), np.min((a + half) / codes)
    scale = np.nextafter(np.float32(low), np.float32(0))
    last = np.nextafter(np.float32(high), np.float32(np.inf))
    if not np.isfinite(last) or scale < np.finfo(np.float32).tiny:
        return None
    while scale <= last:
        if np.array_equal(codes.astype(np.float32) * scale, magnitudes):
            return np.float32(scale)
        scale = np.nextafter(scale, np.float32(np.inf))
    return None
