"""The peak of a process rises by what is held for a moment, and starts anew where the system can forget it."""

import subprocess
import sys
from pathlib import Path

import pytest

from runtime_tests.bench.memory import STATUS

BYTES = 64_000_000
SCRIPT = f"""
from runtime_tests.bench.memory import peak_bytes, reset_peak

before = reset_peak()
held = bytearray({BYTES})
held[::4096] = b"x" * len(held[::4096])  # untouched pages are not resident
del held
print(peak_bytes() - before)
reset_peak()
print(peak_bytes() - before)
"""


@pytest.mark.skipif(not STATUS.exists(), reason="only Linux forgets an earlier peak")
def test_a_peak_counts_what_was_held_for_a_moment() -> None:
    # In a process of its own: what the tests before this one left to the allocator would be counted or used.
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, cwd=root)
    risen, after = map(int, done.stdout.split())
    assert risen >= 0.9 * BYTES
    assert after < 0.1 * BYTES
