"""Offsets that lead nowhere, lengths that end behind the file, and texts that would steer a terminal are refused."""

import random
import struct
from typing import Any

import pytest

pytest.importorskip("ai_edge_litert", reason="LiteRT is an extra: pip install '.[tflite]'")

from export.errors import ExportError
from export.tflite.file import structure
from export.tflite.file.structure import check_structure
from tests.export.tflite.file.small import changed, small_file


def refusal(data: bytes) -> str:
    with pytest.raises(ExportError) as raised:
        check_structure(data)
    message = str(raised.value)
    assert message.isprintable()
    assert len(message) < 300
    return message


def test_a_file_of_ours_is_whole() -> None:
    check_structure(small_file())


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (2**31, "lies at byte"),
        (2**32 - 4, "lies at byte"),
        (3, "is not aligned"),
        (0, "is not aligned|the fields of Model|takes|outside of itself|lies at byte"),
    ],
)
def test_the_root_leads_to_a_table(word: int, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        check_structure(struct.pack("<I", word) + small_file()[4:])


def test_every_cut_and_every_word_is_refused_or_whole() -> None:
    """Nothing but our own error comes out, whatever the bytes are."""
    data = small_file()
    for end in range(8, len(data), 7):
        assert refusal(data[:end])
    generator = random.Random(0)
    refused = 0
    for start in range(8, len(data) - 4, 4):
        wrong = bytearray(data)
        wrong[start : start + 4] = struct.pack("<I", generator.choice((2**31, 2**32 - 1, len(data), 7)))
        try:
            check_structure(bytes(wrong))
        except ExportError:
            refused += 1
    assert refused > 100


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (b"\x1b[2J\x1b[Hcodes ok", r"not printable \(\\x1b\[2J\\x1b\[Hcodes ok\)"),
        (b"a\nb", r"not printable \(a\\nb\)"),
        ("\u202eab".encode(), r"not printable \(\\u202eab\)"),
        (b"\xff\xfe", "is no UTF-8"),
        (b"x" * 1001, "is longer than 1,000 characters"),
        (b"x" * 10**6, "is longer than 1,000 characters"),
    ],
    ids=["screen", "lines", "direction", "no text", "1,001", "a million"],
)
@pytest.mark.parametrize("place", ["tensor", "signature", "entry", "metadata", "description", "operator"])
def test_texts_are_refused(place: str, name: bytes, message: str) -> None:
    def change(model: Any) -> None:
        signature = model.signatureDefs[0]
        table, field = {
            "tensor": (model.subgraphs[0].tensors[2], "name"),
            "signature": (signature, "signatureKey"),
            "entry": (signature.outputs[0], "name"),
            "metadata": (model.metadata[0], "name"),
            "description": (model, "description"),
            "operator": (model.operatorCodes[0], "customCode"),
        }[place]
        setattr(table, field, name)

    with pytest.raises(ExportError, match=message):
        check_structure(changed(change))
    assert refusal(changed(change))


def test_a_long_name_may_be() -> None:
    check_structure(changed(lambda model: setattr(model.subgraphs[0].tensors[2], "name", "ä" * 1000)))


def test_tables_are_counted_as_often_as_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of some megabytes could else refer a million times to one table of a million references."""
    monkeypatch.setattr(structure, "MOST_TABLES", 100)
    check_structure(small_file())
    with pytest.raises(ExportError, match="more than 100 tables"):
        check_structure(changed(lambda model: model.subgraphs.extend(10 * model.subgraphs)))


def test_numbers_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structure, "MOST_NUMBERS", 1000)
    check_structure(small_file())
    with pytest.raises(ExportError, match="more than 1,000 indices and sizes"):
        check_structure(changed(lambda model: setattr(model.subgraphs[0].operators[0], "inputs", [0] * 1001)))
