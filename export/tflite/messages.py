"""Two processes exchange calls and arrays over pipes: JSON, and the arrays' bytes behind it.

Nothing that arrives is executed, as a pickle would be: the process that runs a hostile file is not trusted.

    length of the JSON (4 bytes)   JSON {..., "arrays": [[dtype, shape], ...]}   bytes of each array
"""

import json
import math
import struct
from collections.abc import Mapping, Sequence
from typing import IO, Any

import numpy as np

from export.errors import ExportError

LONGEST_HEADER = 2**24
LARGEST_ARRAY = 2**31
DTYPES = frozenset(
    {
        *("float16", "float32", "float64", "bool", "complex64", "complex128"),
        *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    }
)


def send(pipe: IO[bytes], values: Mapping[str, Any], arrays: Sequence[np.ndarray] = ()) -> None:
    """Send one message.

    Args:
        pipe: Open for writing.
        values: What JSON can hold.
        arrays: Of numbers.

    Raises:
        OSError: Nobody reads it.
    """
    described = [[array.dtype.name, array.shape] for array in arrays]
    header = json.dumps({**values, "arrays": described}).encode()
    pipe.write(struct.pack("<I", len(header)) + header)
    for array in arrays:
        pipe.write(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
    pipe.flush()


def receive(pipe: IO[bytes]) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Wait for one message.

    Raises:
        EOFError: The other end is gone.
        ExportError: It is no message.
    """
    (length,) = struct.unpack("<I", _read(pipe, 4))
    if length > LONGEST_HEADER:
        raise ExportError(f"a message of {length:,} bytes")
    values = json.loads(_read(pipe, length))
    arrays = []
    for dtype, shape in values.pop("arrays"):
        size = math.prod(shape)
        if dtype not in DTYPES or not 0 <= size * np.dtype(dtype).itemsize <= LARGEST_ARRAY:
            raise ExportError(f"an array of {dtype} {shape}")
        data = _read(pipe, size * np.dtype(dtype).itemsize)
        arrays.append(np.frombuffer(data, dtype).reshape(shape))
    return values, arrays


def _read(pipe: IO[bytes], count: int) -> bytearray:
    data = bytearray(count)
    view, done = memoryview(data), 0
    while done < count:
        got = pipe.readinto(view[done:])  # type: ignore[attr-defined]
        if not got:
            raise EOFError
        done += got
    return data
