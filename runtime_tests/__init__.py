"""Exported files in real runtimes, held against PyTorch: commands, and the same as tests."""

from codeq.toolkit import interrupt as _interrupt  # noqa: F401  before all else
