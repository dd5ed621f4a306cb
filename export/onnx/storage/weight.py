"""This record counts what codecs need to know of a weight's codes: where the non-zeros are, how far apart, and which
values they take.
"""

from functools import cached_property

import numpy as np


class CodedWeight:
    """Holds the int8 codes of one weight, any shape, with what is computed from them once.

    Codecs store an index into `alphabet`, the sorted codes that occur: at b bits a weight there are at most 2^b - 1,
    and the decoder's table look-up is the grid's multiplier * level + offset * sign(level).
    """

    def __init__(self, codes: np.ndarray) -> None:
        if codes.dtype != np.int8:
            raise ValueError(f"codes have dtype {codes.dtype}, expected int8")
        if codes.size and codes.min() < -127:
            raise ValueError("codes hold -128, expected a symmetric range")
        self.codes = codes
        self.shape = codes.shape
        self.flat = np.ascontiguousarray(codes).reshape(-1)

    @property
    def numel(self) -> int:
        return int(self.flat.size)

    @cached_property
    def nnz(self) -> int:
        """Count of non-zero codes."""
        return int(np.count_nonzero(self.flat))

    @cached_property
    def counts(self) -> np.ndarray:
        """Say how often each code occurs: `(256,)`, code c at index c + 128."""
        return np.bincount(self.flat.view(np.uint8) ^ 0x80, minlength=256)

    @cached_property
    def alphabet(self) -> np.ndarray:
        """Return the codes that occur, int8, ascending."""
        return (np.flatnonzero(self.counts) - 128).astype(np.int8)

    @property
    def entropy_bytes(self) -> float:
        """Return the Shannon bound of the codes: numel times the entropy of their empirical distribution, in bytes."""
        if not self.numel:
            return 0.0
        frequencies = self.counts[self.counts > 0] / self.numel
        return float(-(frequencies * np.log2(frequencies)).sum() * self.numel / 8) + 0.0

    @property
    def backwards(self) -> "CodedWeight":
        """Return the codes from the last to the first, without their shape."""
        return CodedWeight(self.flat[::-1])

    @property
    def mask(self) -> np.ndarray:
        """Say where codes are not zero, bool `(numel,)`."""
        return np.asarray(self.flat != 0)

    @property
    def values(self) -> np.ndarray:
        """Return the non-zero codes in order, int8 `(nnz,)`."""
        return self.flat[self.mask]

    @property
    def gaps(self) -> np.ndarray:
        """Zeros before each non-zero code, since the one before: int64 `(nnz,)`."""
        return np.diff(np.flatnonzero(self.flat), prepend=-1) - 1

    @cached_property
    def gap_lengths(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the lengths that gaps of `backwards` have, and how often each occurs."""
        return np.unique(self.backwards.gaps, return_counts=True)
