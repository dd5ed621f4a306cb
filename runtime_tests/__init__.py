"""This package runs exported files in real runtimes and holds them against PyTorch: as commands, and as the library of
the tests.
"""

from codeq.toolkit import interrupt as _interrupt  # noqa: F401  before all else
