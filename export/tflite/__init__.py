"""A checkpoint becomes a .tflite file for LiteRT. `python -m export.tflite ckpt.pt`, or `export_tflite`."""

from importlib import import_module
from typing import Any

__all__ = ["export_tflite"]

_HOME = {"export_tflite": "export.tflite.export"}


def __getattr__(name: str) -> Any:
    # Lazy, so that a command starts before PyTorch is loaded.
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'export.tflite' has no attribute {name!r}")
