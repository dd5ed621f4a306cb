"""The peak of this process rises by what is held for a moment, and starts anew where the system can forget it."""

import pytest

from runtime_tests.bench.memory import STATUS, peak_bytes, reset_peak

BYTES = 64_000_000


@pytest.mark.skipif(not STATUS.exists(), reason="only Linux forgets an earlier peak")
def test_a_peak_counts_what_was_held_for_a_moment() -> None:
    before = reset_peak()
    held = bytearray(BYTES)
    held[::4096] = b"x" * len(held[::4096])  # untouched pages are not resident
    del held
    assert peak_bytes() - before >= 0.9 * BYTES
    reset_peak()
    assert peak_bytes() - before < 0.9 * BYTES
