"""A checkpoint becomes a file for a runtime. `python -m export.onnx ckpt.pt`, or `export_onnx` for a live network."""

from codeq.toolkit import interrupt as _interrupt  # noqa: F401, I001  before all else

from importlib import import_module
from typing import Any

__all__ = [
    "ExportError",
    "ParityError",
    "Report",
    "Verdict",
    "check_parity",
    "export_onnx",
    "export_tflite",
    "load_session",
]

_HOME = {
    "ExportError": "export.errors",
    "ParityError": "export.parity.verdict",
    "Report": "export.report",
    "Verdict": "export.parity.verdict",
    "check_parity": "export.publish",
    "export_onnx": "export.onnx.export",
    "export_tflite": "export.tflite.export",
    "load_session": "export.onnx.sessions",
}


def __getattr__(name: str) -> Any:
    # Lazy, so that a command starts before PyTorch is loaded, and load_session needs no exporter.
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'export' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
