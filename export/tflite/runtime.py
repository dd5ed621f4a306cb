"""This module imports LiteRT where it is first needed: the package is an extra, and modules that do without it must
import too.
"""

from importlib import import_module
from importlib.metadata import version
from typing import Any

from codeq.toolkit.extras import install_hint
from export.errors import ExportError

PACKAGE = "ai-edge-litert"


def schema() -> Any:
    """Import the classes that LiteRT generates from the schema of .tflite files."""
    return _import("ai_edge_litert.schema_py_generated")


def flatbuffers() -> Any:
    """Import the package that writes them."""
    return _import("flatbuffers")


def interpreter() -> Any:
    """LiteRT's module of interpreters."""
    return _import("ai_edge_litert.interpreter")


def installed_version() -> str:
    """Return LiteRT's version.

    Raises:
        ExportError: It is not installed.
    """
    schema()
    return version(PACKAGE)


def _import(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise ExportError(
            f"LiteRT files need the package {PACKAGE}, which is not installed ({error}): {install_hint('tflite')}"
        ) from error
