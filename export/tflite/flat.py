"""This module reads a .tflite file as a flat mapping (export/parity/differences.py): any field is an entry."""

from pathlib import Path
from typing import Any

import numpy as np

from export.metadata import KEY
from export.parity.differences import Flat, flatten, flatten_metadata
from export.tflite.file.flatbuffer import read_metadata
from export.tflite.stored_file import read_file


def flat_file(path: Path) -> Flat:
    """Read a file into a flat mapping.

    Raises:
        ExportError: Missing, damaged, or not one of ours.
    """
    stored = read_file(path)
    flat: Flat = {}
    text = read_metadata(stored.content, KEY)
    flatten_metadata({} if text is None else {KEY: text}, flat)
    flatten(_plain(stored.content), "model", flat)
    return flat


def _plain(value: Any) -> Any:
    """Turn the schema's objects into plain values, texts where bytes are text."""
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray) or not hasattr(value, "__dict__"):
        return value
    return {name: _plain(item) for name, item in vars(value).items() if item is not None}
