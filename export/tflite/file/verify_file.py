"""A .tflite file is verified before anything else reads it: its structure, what it says, and its texts."""

import json
import math
import struct
from pathlib import Path
from typing import Any

from export.errors import ExportError
from export.metadata import KEY
from export.tflite.file.flatbuffer import read, read_metadata
from export.tflite.file.semantics import check_semantics
from export.tflite.file.structure import check_structure, check_text

LONGEST_FAILURE = 4000
"""Characters of the metadata's one text that is no name."""
LARGEST_NUMBER = 2**63
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
        text = read_metadata(model, KEY)
        if text is not None:
            check_metadata(text)
    except ExportError as error:
        raise ExportError(f"{path}: is damaged: {error}; export it again") from error
    except UNREADABLE as error:
        raise ExportError(f"{path}: is damaged ({type(error).__name__}); export it again") from error
    return model


def check_metadata(text: str) -> None:
    """Check that a file's description of itself is JSON of texts that can be shown and of plain numbers.

    Raises:
        ExportError: What is wrong with it.
    """
    what = f"a text of its {KEY!r} metadata"
    try:
        waiting = [json.loads(text)]
    except (ValueError, RecursionError) as error:
        raise ExportError(f"its {KEY!r} metadata is no JSON ({type(error).__name__})") from error
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += [*value, *(part for key, part in value.items() if key != "parity")]
            failure = value.get("parity")
            if failure is not None:
                _check_failure(failure)
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, str):
            check_text(value.encode(errors="surrogatepass"), what)
        elif isinstance(value, float) and not math.isfinite(value):
            raise ExportError(f"its {KEY!r} metadata holds the number {value}")
        elif isinstance(value, int) and abs(value) > LARGEST_NUMBER:
            raise ExportError(f"its {KEY!r} metadata holds a number of more than 64 bits")


def _check_failure(parity: Any) -> None:
    """Check what an export has recorded that does not hold: one line, longer than a name."""
    failure = parity.get("first_failure", "") if isinstance(parity, dict) else None
    if not isinstance(failure, str) or len(failure) > LONGEST_FAILURE or not failure.isprintable():
        raise ExportError(f"its {KEY!r} metadata has a failure that is not one line of text")
