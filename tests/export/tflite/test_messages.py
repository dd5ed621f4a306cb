"""Arrays come out as they went in; what is no message is refused, and nothing in one is executed."""

import io
import json
import struct
from typing import Any

import numpy as np
import pytest

from export.errors import ExportError
from export.tflite.messages import receive, send

ARRAYS = [
    np.arange(6, dtype=np.float32).reshape(2, 3).T,
    np.zeros((0, 4), np.int8),
    np.array(True),
    np.arange(4, dtype=np.uint8)[::2],
]


def test_arrays_arrive() -> None:
    pipe = io.BytesIO()
    send(pipe, {"call": "run"}, ARRAYS)
    pipe.seek(0)
    values, arrays = receive(pipe)
    assert values == {"call": "run"}
    for sent, found in zip(ARRAYS, arrays, strict=True):
        assert found.dtype == sent.dtype
        assert np.array_equal(found, sent)


@pytest.mark.parametrize("array", [["object", [1]], ["float32", [2**40]], ["float32", [-1]], ["U9", [1]]])
def test_other_arrays_are_refused(array: Any) -> None:
    header = json.dumps({"arrays": [array]}).encode()
    with pytest.raises(ExportError, match="an array of"):
        receive(io.BytesIO(struct.pack("<I", len(header)) + header + bytes(100)))


def test_endless_and_cut_messages() -> None:
    with pytest.raises(ExportError, match="a message of 4,294,967,295 bytes"):
        receive(io.BytesIO(b"\xff" * 8))
    with pytest.raises(EOFError):
        receive(io.BytesIO(b"\x08\0\0\0{"))
