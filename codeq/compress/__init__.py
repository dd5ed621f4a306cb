"""This package compresses trained networks without training: from float weights and a few inputs to codes."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codeq.compress.network import compress
    from codeq.compress.report import CompressReport

__all__ = ["CompressReport", "compress"]


def __getattr__(name: str) -> Any:
    # Lazy, so that the command answers before PyTorch is loaded.
    if name == "compress":
        from codeq.compress.network import compress

        return compress
    if name == "CompressReport":
        from codeq.compress.report import CompressReport

        return CompressReport
    raise AttributeError(f"module 'codeq.compress' has no attribute {name!r}")
