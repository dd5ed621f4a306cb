"""The table of references is what LiteRT's own classes follow."""

import inspect
import re
from collections.abc import Iterator

import pytest

pytest.importorskip("ai_edge_litert", reason="LiteRT is an extra: pip install '.[tflite]'")

from export.tflite.file.tables import REFERENCES, TEXT, VECTOR_BYTES
from export.tflite.runtime import schema

NUMBERS = {"Bool": "bool", "Uint8": "byte", "Uint16": "ushort", "Int32": "int", "Uint32": "uint", "Float32": "float"}
NUMBERS |= {"Int64": "long"}
METHOD = r"    def (\w+)\(self(?:, j)?\):\n(.*?)(?=\n    # |\n    def |\Z|\ndef )"


def references() -> Iterator[tuple[str, int, str]]:
    """Every field that leads elsewhere: its table, its place, and to what, as the generated code reads it."""
    for text in re.split(r"^class ", inspect.getsource(schema()), flags=re.MULTILINE)[1:]:
        if "__slots__ = ['_tab']" not in text:
            continue
        for method, body in re.findall(METHOD, text, re.DOTALL):
            place = re.search(r"_tab\.Offset\((\d+)\)", body)
            if place is None or method.endswith(("AsNumpy", "Length", "IsNone")):
                continue
            table = re.search(r"obj = (\w+)\(\)", body)
            if "_tab.String(" in body:
                kind = TEXT
            elif "_tab.Union" in body or "flatbuffers.table.Table" in body:
                kind = "union"
            elif "_tab.Vector(o)" in body:
                number = re.search(r"number_types\.(\w+)Flags, a", body)
                kind = f"[{table[1] if table else NUMBERS[number[1]] if number else ''}]"
            elif "Indirect" in body and table is not None:
                kind = table[1]
            else:
                continue
            yield text[: text.index("(")], int(place[1]), kind


def test_no_reference_of_the_schema_is_missing() -> None:
    found = {(table, place): kind for table, place, kind in references()}
    assert len(found) > 80
    listed = {
        (table, place): kind.split()[0] for table, fields in REFERENCES.items() for place, (_, kind) in fields.items()
    }
    assert listed == found


def test_every_kind_is_known() -> None:
    for fields in REFERENCES.values():
        for _, kind in fields.values():
            element = kind.strip("[]")
            known = element in VECTOR_BYTES or hasattr(schema(), element)
            assert known or kind == TEXT or kind.startswith("union ")
