"""A checkpoint becomes a file for a runtime. `python -m export.onnx ckpt.pt`, or `export_onnx` for a live module."""

from importlib import import_module
from typing import Any

__all__ = ["ExportError", "ParityError", "Report", "Verdict", "check_parity", "export_onnx", "load_session"]

_HOME = {
    "ExportError": "export.errors",
    "ParityError": "export.errors",
    "Report": "export.parity.report",
    "Verdict": "export.onnx.verify",
    "export_onnx": "export.onnx.export",
    "load_session": "export.onnx.sessions",
    "check_parity": "export.onnx.verify",
}


def __getattr__(name: str) -> Any:
    # Lazy, so that `python -m export.onnx` does not import itself twice and load_session needs no exporter.
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'export' has no attribute {name!r}")
