"""This package takes over networks that other tools have quantized: values that lie on a grid become codes again."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codeq.adopt.published import from_published
    from codeq.adopt.recovered import recover
    from codeq.adopt.report import AdoptReport

__all__ = ["AdoptReport", "from_published", "recover"]


def __getattr__(name: str) -> Any:
    # Lazy, so that the command answers before PyTorch is loaded.
    from importlib import import_module

    homes = {"AdoptReport": "report", "from_published": "published", "recover": "recovered"}
    if name in homes:
        return getattr(import_module(f"codeq.adopt.{homes[name]}"), name)
    raise AttributeError(f"module 'codeq.adopt' has no attribute {name!r}")
