"""A .tflite file is verified before anything else reads it: its structure and texts, and what it says."""

import struct
from pathlib import Path
from typing import Any

import numpy as np

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
        _take_in(model, data)
        check_semantics(model, len(data))
    except ExportError as error:
        raise ExportError(f"{path}: is damaged: {error}; export it again") from error
    except UNREADABLE as error:
        raise ExportError(f"{path}: is damaged ({type(error).__name__}); export it again") from error
    return model


def _take_in(model: Any, data: bytes) -> None:
    """Give buffers their data that the file keeps behind its tables, as ai-edge-quantizer writes it.

    Raises:
        ExportError: It would lie outside of the file, or in two places.
    """
    for number, buffer in enumerate(model.buffers or ()):
        if buffer.offset <= 1 and buffer.size <= 1:
            continue
        end = buffer.offset + buffer.size
        if min(buffer.offset, buffer.size) <= 1 or end > len(data):
            raise ExportError(f"buffer {number} keeps bytes {buffer.offset:,} to {end:,}, of {len(data):,}")
        if buffer.data is not None and len(buffer.data):
            raise ExportError(f"buffer {number} keeps its data in two places")
        buffer.data = np.frombuffer(data, np.uint8, buffer.size, buffer.offset)
        buffer.offset = buffer.size = 0
