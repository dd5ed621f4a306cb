"""Calls and arrays cross a pipe as they are, and nonsense on it is refused."""

import io

import numpy as np
import pytest

from export.errors import ExportError
from export.tflite.messages import receive, send

pytestmark = pytest.mark.quick


def test_a_message_arrives_as_it_was_sent() -> None:
    arrays = [np.arange(6, dtype=np.int8).reshape(2, 3), np.float32([[1.5]]), np.zeros((0, 4), np.int64)]
    pipe = io.BytesIO()
    send(pipe, {"call": "run", "session": 3}, arrays)
    send(pipe, {"call": "open"})
    pipe.seek(0)
    values, found = receive(pipe)
    assert (values["call"], values["session"]) == ("run", 3)
    for one, other in zip(found, arrays, strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert np.array_equal(one, other)
    assert receive(pipe)[0]["call"] == "open"
    with pytest.raises(EOFError):
        receive(pipe)


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xff\xff\x7f",
        b"\x02\x00\x00\x00[]",
        b"\x04\x00\x00\x00nope",
        (lambda text: len(text).to_bytes(4, "little") + text)(b'{"arrays": [["object", [1]]]}'),
        (lambda text: len(text).to_bytes(4, "little") + text)(b'{"arrays": [["float32", [-1]]]}'),
        (lambda text: len(text).to_bytes(4, "little") + text)(b'{"arrays": [["float32", [1000000000000]]]}'),
    ],
    ids=["length", "list", "no json", "type", "size", "huge"],
)
def test_nonsense_is_refused(content: bytes) -> None:
    with pytest.raises((ValueError, TypeError, KeyError, EOFError, ExportError)):
        receive(io.BytesIO(content))
