"""Memory that is freed and asked for again costs no page faults once the process keeps it."""

import ctypes
import subprocess
import sys

import pytest

GLIBC = sys.platform.startswith("linux") and hasattr(ctypes.CDLL(None), "mallopt")
PROGRAM = """
import resource, sys
import numpy as np
from codeq.toolkit.allocator import keep_freed_memory
if "keep" in sys.argv:
    keep_freed_memory()
def layers():
    blocks = [np.ones(1 << 21) for _ in range(4)]  # 16 MB each
layers()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    layers()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not GLIBC, reason="another C library")
def test_what_is_freed_is_used_again() -> None:
    faults = {
        how: int(subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, check=True).stdout)
        for how in ("keep", "give")
    }
    assert faults["keep"] < faults["give"] / 10
