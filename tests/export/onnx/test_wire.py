"""Bytes that protobuf should not parse, or whose text a terminal should not see, end in one line."""

import os
from pathlib import Path
from typing import Any

import onnx
import pytest

from export.errors import ExportError
from export.onnx.wire import MAX_FIELDS, MAX_METADATA, MAX_PACKED_BYTES, check_content, check_file

pytestmark = pytest.mark.quick

SOURCE = Path("net.onnx")


def delimited(number: int, content: bytes) -> bytes:
    size, length = len(content), b""
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def in_graph(content: bytes) -> bytes:
    return delimited(7, content)


NAMED = onnx.NodeProto.DESCRIPTOR.fields_by_name["name"].number
BAD = {
    "text": (b"hello", "is not an ONNX file"),
    "field 0": (b"\x00\x00", "is not an ONNX file"),
    "a group": (b"\x0b\x0c", "is not an ONNX file"),
    "a varint without end": (b"\x08" + b"\xff" * 20, "is not an ONNX file"),
    "a length beyond the end": (b"\x3a\x7f\x00", "is not an ONNX file"),
    "a message beyond its own": (in_graph(b"\x0a\x05\x00"), "is not an ONNX file"),
    "a half": (b"\x3a", "is not an ONNX file"),
    "nodes": (in_graph(b"\x0a\x00" * (MAX_FIELDS + 1)), "has more than 500000 fields"),
    "packed numbers": (
        in_graph(delimited(5, delimited(7, bytes(MAX_PACKED_BYTES + 1)))),
        "store them as raw_data",
    ),
    "metadata": (delimited(14, delimited(2, b"x" * (MAX_METADATA + 1))), "has metadata of more than"),
    "no UTF-8": (in_graph(delimited(1, delimited(NAMED, b"a\xff\xfe"))), r"NodeProto.name is no UTF-8 ('a\xff\xfe')"),
    "a control character": (in_graph(delimited(2, b"a\x9bb")), "is no UTF-8"),
    "an escape": (in_graph(delimited(2, b"a\x1b[2J")), r"GraphProto.name holds control characters ('a\x1b[2J')"),
    "a long name": (in_graph(delimited(2, b"x" * 1001)), "GraphProto.name has 1001 characters"),
    "a longer name": (in_graph(delimited(2, b"x" * 10**6)), "GraphProto.name has 1000000 bytes"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_refused(name: str) -> None:
    content, message = BAD[name]
    with pytest.raises(ExportError) as caught:
        check_content(content, SOURCE)
    assert message in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


def test_doc_strings_have_lines() -> None:
    check_content(delimited(6, b"line\nline"), SOURCE)
    check_content(delimited(14, delimited(1, b"key") + delimited(2, b"trace\n\tback")), SOURCE)


def test_fields_of_a_later_onnx_are_passed_over() -> None:
    check_content(delimited(15, b"\xff\xff"), SOURCE)


def test_files_of_ours(small_file: Any) -> None:
    check_file(small_file(storage="packed")[0])


def test_what_is_no_ordinary_file(tmp_path: Path) -> None:
    loop, pipe, empty = tmp_path / "loop.onnx", tmp_path / "pipe.onnx", tmp_path / "empty.onnx"
    loop.symlink_to(loop)
    os.mkfifo(pipe)
    empty.touch()
    for path, message in (
        (tmp_path, "is a folder"),
        (loop, "no such file"),
        (tmp_path / "gone.onnx", "no such file"),
        (pipe, "is no ordinary file"),
        (Path("/dev/zero"), "is no ordinary file"),
        (empty, "is not an ONNX file"),
    ):
        with pytest.raises(ExportError, match=message):
            check_file(path)


def test_a_file_of_more_than_protobuf_parses(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    with path.open("wb") as file:
        file.truncate(2**31)
    with pytest.raises(ExportError, match=r"has 2147483648 bytes, expected an ONNX file of 2147483647 at most"):
        check_file(path)
    with path.open("wb") as file:
        file.truncate(2**31 - 1)
    with pytest.raises(ExportError, match="is not an ONNX file"):
        check_file(path)
