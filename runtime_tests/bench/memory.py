"""This module reads the peak memory of this process."""

import resource
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")


def reset_peak() -> int:
    """Start measuring: forget earlier peaks where the system can, and return the bytes resident now."""
    if STATUS.exists():
        Path("/proc/self/clear_refs").write_text("5")
        return _status("VmRSS")
    return peak_bytes()


def peak_bytes() -> int:
    """Return the most bytes that were resident at once, since `reset_peak` where the system can tell (Linux)."""
    if STATUS.exists():
        return _status("VmHWM")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status(key: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024
