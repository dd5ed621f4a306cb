"""This module looks at the bytes of a model before protobuf parses them: their size once parsed, and their text.

A message of no content takes two bytes of a file and a hundred and fifty of memory, and protobuf hands out names that
are not UTF-8. So the fields are walked first, by onnx's own descriptors (https://protobuf.dev/programming-guides/encoding).
"""

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from codeq.toolkit.files import check_ordinary
from codeq.toolkit.text import printable
from export.errors import ExportError

MAX_FILE_BYTES = 2**31 - 1
"""Protobuf parses no more."""
MAX_FIELDS = 500_000
"""Those of a file; a transformer of 100 layers has about 100,000. At 150 bytes each they are 75 MB once parsed."""
MAX_PACKED_BYTES = 2**27
"""Those of numbers in varints, which become eight times as large."""
MAX_NAME = 1000
"""Characters of a name."""
MAX_TEXT = 100_000
"""Characters of a doc string, or of metadata of another writer's."""
MAX_METADATA = 2**25
"""Bytes of the values of a model's metadata, ours among them: a few hundred for each weight."""

VARINT, FIXED64, DELIMITED, FIXED32 = 0, 1, 2, 5
MODEL_METADATA = onnx.ModelProto.DESCRIPTOR.fields_by_name["metadata_props"]
EXTERNAL_DATA = onnx.TensorProto.DESCRIPTOR.fields_by_name["external_data"]
VARINTS = frozenset(
    {FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_ENUM}
)


def check_file(source: Path) -> None:
    """See that a file can be parsed: an ordinary file whose fields are those of a model, not too many, their text fit
    to be shown.

    Raises:
        ExportError: It is not, or there is none.
    """
    if not source.exists():
        raise ExportError(f"{source}: no such file")
    check_ordinary(source, "an ONNX file", ExportError)
    size = source.stat().st_size
    if size > MAX_FILE_BYTES:
        raise ExportError(f"{source}: has {size} bytes, expected an ONNX file of {MAX_FILE_BYTES} at most")
    if not size:
        raise ExportError(f"{source}: is not an ONNX file (it is empty)")
    try:
        with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            check_content(content, source)
    except OSError as error:
        raise ExportError(f"{source}: cannot be read ({error.strerror or error})") from error


def check_content(content: bytes | mmap.mmap, source: Path) -> None:
    """See that the bytes of a model can be parsed, as `check_file` does.

    Args:
        content: The whole file.
        source: For messages.

    Raises:
        ExportError: They cannot, or should not.
    """
    try:
        _walk(content, source)
    except (IndexError, _MalformedError) as error:
        raise ExportError(f"{source}: is not an ONNX file, or is damaged") from error


class _MalformedError(Exception):
    """Bytes that are no message."""


def _walk(content: bytes | mmap.mmap, source: Path) -> None:
    # A message waits with its end, its fields, and the field that it is of.
    waiting: list[tuple[int, int, Descriptor, Any]] = [(0, len(content), onnx.ModelProto.DESCRIPTOR, None)]
    fields, packed, metadata = 0, 0, 0
    while waiting:
        start, end, message, owner = waiting.pop()
        known = message.fields_by_number
        for number, kind, at, stop in _fields(content, start, end):
            fields += 1
            if fields > MAX_FIELDS:
                raise ExportError(f"{source}: has more than {MAX_FIELDS} fields, which no network needs")
            field = known.get(number)
            if field is None or kind != DELIMITED:
                continue
            if field.type == FieldDescriptor.TYPE_MESSAGE:
                waiting.append((at, stop, field.message_type, field))
            elif field.type == FieldDescriptor.TYPE_STRING:
                if owner is MODEL_METADATA and field.name == "value":
                    metadata += stop - at
                    if metadata > MAX_METADATA:
                        raise ExportError(f"{source}: has metadata of more than {MAX_METADATA} bytes")
                    _check_utf8(content[at:stop], field, source)
                else:
                    _check_text(content, at, stop, field, owner, source)
            elif field.type in VARINTS:
                packed += stop - at
                if packed > MAX_PACKED_BYTES:
                    raise ExportError(
                        f"{source}: has more than {MAX_PACKED_BYTES} bytes of packed numbers; store them as raw_data"
                    )


def _fields(content: bytes | mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield number, wire type, start and end of every field of a message."""
    while at < end:
        tag, at = _varint(content, at)
        kind = tag & 7
        if kind == VARINT:
            start = at
            _, at = _varint(content, at)
        elif kind == DELIMITED:
            size, start = _varint(content, at)
            at = start + size
        elif kind in (FIXED64, FIXED32):
            start = at
            at += 8 if kind == FIXED64 else 4
        else:
            raise _MalformedError
        if at > end or not tag >> 3:
            raise _MalformedError
        yield tag >> 3, kind, start, at


def _varint(content: bytes | mmap.mmap, at: int) -> tuple[int, int]:
    byte = content[at]
    if byte < 128:
        return byte, at + 1
    value, shift = byte & 127, 7
    while byte >= 128:
        at += 1
        if shift > 63:
            raise _MalformedError
        byte = content[at]
        value |= (byte & 127) << shift
        shift += 7
    return value, at + 1


def _check_text(
    content: bytes | mmap.mmap, at: int, stop: int, field: FieldDescriptor, owner: Any, source: Path
) -> None:
    long = field.name == "doc_string" or (field.name == "value" and owner is not EXTERNAL_DATA)
    limit = MAX_TEXT if long else MAX_NAME
    place = f"{source}: {field.containing_type.name}.{field.name}"
    if stop - at > 4 * limit:
        text = printable(content[at : at + 100].decode(errors="replace"), 40)
        raise ExportError(f"{place} has {stop - at} bytes ({text!r}), expected {limit} at most")
    text = _check_utf8(content[at:stop], field, source)
    if len(text) > limit:
        raise ExportError(f"{place} has {len(text)} characters ({printable(text, 40)!r}), expected {limit} at most")
    if not long and not text.isprintable():
        raise ExportError(f"{place} holds control characters ('{printable(text, 80)}'); no file of ours has them")


def _check_utf8(content: bytes, field: FieldDescriptor, source: Path) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        shown = ascii(content[:40])[1:]
        place = f"{source}: {field.containing_type.name}.{field.name}"
        raise ExportError(f"{place} is no UTF-8 ({shown}); the file is damaged") from error
