"""One way to run a file, whichever runtime it is for: `open_runner(path)`."""

from runtime_tests.runners.open import RUNTIMES, installed, look_up, open_runner, preload, runtimes_for
from runtime_tests.runners.runner import InputSlot, Runner, run_batches

__all__ = [
    "RUNTIMES",
    "InputSlot",
    "Runner",
    "installed",
    "look_up",
    "open_runner",
    "preload",
    "run_batches",
    "runtimes_for",
]
