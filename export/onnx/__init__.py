"""A checkpoint becomes an ONNX file for onnxruntime. `python -m export.onnx ckpt.pt`, or `export_onnx`."""

from importlib import import_module
from typing import Any

__all__ = ["export_onnx"]

_HOME = {"export_onnx": "export.onnx.export"}


def __getattr__(name: str) -> Any:
    # Lazy, so that a command starts before PyTorch is loaded.
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'export.onnx' has no attribute {name!r}")
