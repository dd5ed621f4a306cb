"""This package compresses trained networks without training: from float weights and a few inputs to codes."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codeq.compress.advice import Advice, advise
    from codeq.compress.network import compress
    from codeq.compress.report import CompressReport

__all__ = ["Advice", "CompressReport", "advise", "compress"]

_HOME = {
    "Advice": "codeq.compress.advice",
    "CompressReport": "codeq.compress.report",
    "advise": "codeq.compress.advice",
    "compress": "codeq.compress.network",
}


def __getattr__(name: str) -> Any:
    # Lazy, so that the command answers before PyTorch is loaded.
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'codeq.compress' has no attribute {name!r}")
