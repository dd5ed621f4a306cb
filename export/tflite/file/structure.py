"""Check that every offset of a .tflite file leads to a whole table, vector or text in it, before anything reads it.

LiteRT follows offsets unchecked, and so do the classes that it generates for Python. Source: the flatbuffer format, and
the limits of its own verifier; a table that is referred to many times counts as often, as readers copy it.
"""

import struct

from codeq.toolkit.text import printable
from export.errors import ExportError
from export.tflite.file.identifier import IDENTIFIER
from export.tflite.file.tables import REFERENCES, TEXT, UNIONS, VECTOR_BYTES
from export.tflite.runtime import schema

MOST_BYTES = 2**31 - 1
MOST_TABLES = 200_000
MOST_NUMBERS = 2_000_000
"""Elements of all vectors of shapes and indices, each as often as it is referred to."""
DEEPEST = 16
"""Tables within tables; the schema has 6."""
LONGEST_TEXT = 1000
DATA = frozenset({"Buffer", "QuantizationParameters", "Int32Vector", "Uint16Vector", "Uint8Vector"})
"""Tables whose vectors are read as arrays, at the cost of nothing."""


def check_structure(data: bytes) -> None:
    """Check the offsets, lengths and texts of a file.

    Raises:
        ExportError: What is wrong, and at which byte.
    """
    if len(data) > MOST_BYTES:
        raise ExportError(f"{len(data):,} bytes, and a flatbuffer ends at {MOST_BYTES:,}")
    if data[4:8] != IDENTIFIER:
        raise ExportError("it does not begin as a .tflite file")
    _Reader(data).read_root()


def check_text(raw: bytes, what: str) -> None:
    """See that a text of a file can be shown.

    Args:
        raw: Its bytes.
        what: What it is, for the message.

    Raises:
        ExportError: It is too long, no UTF-8, or holds characters that would steer a terminal.
    """
    text = raw[: 4 * LONGEST_TEXT].decode(errors="backslashreplace")
    if len(raw) > 4 * LONGEST_TEXT or len(text) > LONGEST_TEXT:
        raise ExportError(f"{what} is longer than {LONGEST_TEXT:,} characters ({printable(text, 40)})")
    try:
        raw.decode()
    except UnicodeDecodeError:
        raise ExportError(f"{what} is no UTF-8 ({printable(text, 60)})") from None
    if not text.isprintable():
        raise ExportError(f"{what} holds characters that are not printable ({printable(text, 60)})")


class _Reader:
    """Follows every reference of a file, within limits."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.tables = 0
        self.numbers = 0
        fb = schema()
        self.unions = {
            kind: {number: name for name, number in vars(getattr(fb, enumeration)).items() if not name.startswith("_")}
            for kind, enumeration in UNIONS.items()
        }

    def read_root(self) -> None:
        self._table(self._follow(0, "Model"), "Model", 0)

    def _number(self, form: str, position: int, size: int, what: str) -> int:
        if position < 0 or position + size > len(self.data):
            raise ExportError(f"{what} lies at byte {position:,} of {len(self.data):,}")
        return int(struct.unpack_from(form, self.data, position)[0])

    def _follow(self, position: int, what: str) -> int:
        return position + self._number("<I", position, 4, what)

    def _table(self, position: int, name: str, depth: int) -> None:
        self.tables += 1
        if self.tables > MOST_TABLES:
            raise ExportError(f"more than {MOST_TABLES:,} tables")
        if depth > DEEPEST:
            raise ExportError(f"tables within tables, more than {DEEPEST} deep")
        if position % 4:
            raise ExportError(f"{name} at byte {position:,} is not aligned")
        fields = position - self._number("<i", position, 4, name)
        length = self._number("<H", fields, 2, f"the fields of {name}")
        size = self._number("<H", fields + 2, 2, f"the fields of {name}")
        if length < 4 or length % 2 or fields + length > len(self.data):
            raise ExportError(f"the fields of {name} at byte {fields:,} take {length} bytes")
        if size < 4 or position + size > len(self.data):
            raise ExportError(f"{name} at byte {position:,} takes {size} bytes of {len(self.data):,}")
        offsets = struct.unpack_from(f"<{length // 2 - 2}H", self.data, fields + 4)
        if any(offset and not 4 <= offset < size for offset in offsets):
            raise ExportError(f"{name} at byte {position:,} has a field outside of itself")
        for place, (field, kind) in REFERENCES.get(name, {}).items():
            number = place // 2 - 2
            offset = offsets[number] if number < len(offsets) else 0
            if kind.startswith("union"):
                self._union(position, offsets, number, f"{field} of {name}", kind, depth)
            elif offset:
                if offset + 4 > size:
                    raise ExportError(f"{name} at byte {position:,} has a field outside of itself")
                self._reference(self._follow(position + offset, field), name, field, kind, depth)

    def _union(self, position: int, offsets: tuple[int, ...], number: int, what: str, kind: str, depth: int) -> None:
        """Read a union, whose table the field in front of it names."""
        which, offset = ((*offsets, *[0] * number)[index] for index in (number - 1, number))
        choice = self.data[position + which] if which else 0
        if not choice:
            return
        if choice not in self.unions[kind]:
            raise ExportError(f"{what} is of the unknown kind {choice}")
        if not offset:
            raise ExportError(f"{what} is missing")
        self._table(self._follow(position + offset, what), self.unions[kind][choice], depth + 1)

    def _reference(self, position: int, name: str, field: str, kind: str, depth: int) -> None:
        what = f"{field} of {name}"
        if not kind.startswith("[") and kind != TEXT:
            self._table(position, kind, depth + 1)
            return
        length = self._number("<I", position, 4, what)
        element = kind.strip("[]")
        size = 1 if kind == TEXT else VECTOR_BYTES.get(element, 4)
        end = position + 4 + length * size
        if end > len(self.data):
            raise ExportError(f"{what} at byte {position:,} has {length:,} elements, which end behind the file")
        if kind == TEXT:
            check_text(self.data[position + 4 : min(end, position + 8 + 4 * LONGEST_TEXT)], what)
            if end >= len(self.data) or self.data[end]:
                raise ExportError(f"{what} at byte {position:,} does not end")
        elif element in VECTOR_BYTES:
            if name not in DATA:
                self.numbers += length
            if self.numbers > MOST_NUMBERS:
                raise ExportError(f"more than {MOST_NUMBERS:,} indices and sizes")
        else:
            for index in range(length):
                place = position + 4 + 4 * index
                self._table(self._follow(place, what), element, depth + 1)
