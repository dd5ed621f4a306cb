"""Ctrl-C ends a command with one line and status 130 from the first import of ours on, before anything else is loaded.

Each package of ours that has commands imports this file before all else, and this file imports nothing that Python has
not loaded itself. Later, codeq/toolkit/startup.py takes over. What nobody can catch is Ctrl-C before the first line
here: while Python itself starts, reads its .pth files, and finds this package. That shows Python's own traceback.
"""

import os
import sys
from types import TracebackType

PACKAGES = ("codeq", "export", "models", "runtime_tests")
"""Our import packages, side by side in one folder."""


def end_if_uncaught() -> None:
    """Let a KeyboardInterrupt that nobody catches end the process, while `python -m` looks for a command of ours.

    In any other process, and for any other exception, all stays as it is.
    """
    # So long as `python -m` has not found the module, it stands in the first argument's place.
    if sys.argv[:1] == ["-m"] and "-m" in sys.orig_argv:
        name = sys.orig_argv[sys.orig_argv.index("-m") + 1]
        if name.partition(".")[0] in PACKAGES:
            sys.excepthook = _hook


def _hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        os.write(2, b"interrupted\n")
        os._exit(130)
    sys.__excepthook__(kind, error, trace)


end_if_uncaught()
