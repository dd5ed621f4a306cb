"""A .tflite file is verified before anything else reads it: its structure and texts, and what it says."""

import struct
from pathlib import Path
from typing import Any

from export.errors import ExportError
from export.tflite.file.flatbuffer import read
from export.tflite.file.semantics import check_semantics
from export.tflite.file.structure import check_structure

UNREADABLE = (struct.error, IndexError, KeyError, TypeError, ValueError, AttributeError, OverflowError)
"""What the schema's classes raise for numbers that they do not expect."""


def verify_file(path: Path, data: bytes) -> Any:
    """Verify a file that anybody may have written.

    Args:
        path: For messages.
        data: Its bytes.

    Returns:
        The schema's `ModelT`.

    Raises:
        ExportError: What is wrong, in one line.
    """
    try:
        check_structure(data)
        model = read(data)
        check_semantics(model, len(data))
    except ExportError as error:
        raise ExportError(f"{path}: is damaged: {error}; export it again") from error
    except UNREADABLE as error:
        raise ExportError(f"{path}: is damaged ({type(error).__name__}); export it again") from error
    return model
