"""This module packs small integers into bytes and unpacks them: every packed codec stores its numbers in this form.

A byte holds as many digits of a radix as fit: eight of radix 2, five of 3, four of 4, three of 6, two of 16. The first
is the least significant; the last byte is filled up with zeros. All bytes are decoded by one look-up in a table of 256
rows. Numbers of 3, 5, 6 or 7 bits are stored as planes, one row of bytes for each bit.
"""

import math

import numpy as np
import onnx
from onnx import TensorProto
from onnxscript import BOOL, UINT8
from onnxscript import opset13 as op

from export.onnx.storage.decoder import decoder
from export.onnx.storage.part import Call

LANES = {2: 8, 3: 5, 4: 4, 6: 3, 16: 2, 256: 1}
"""Radix to digits in a byte; the radices between them waste more."""
LAST = onnx.helper.make_tensor("", TensorProto.INT32, [1], [255])
PLANES = (3, 5, 6, 7)
"""Widths in bits that are stored as planes."""


def storage_radices(count: int) -> list[int]:
    """Return the radices worth having for numbers below `count`: one of LANES, and a power of two for planes where that
    takes fewer bits; it is slower to decode. The one with the fewest bits comes first."""
    lanes = min(radix for radix in LANES if radix >= count)
    planes = min((1 << width for width in PLANES if 1 << width >= count), default=256)
    return [planes, lanes] if bits_per_number(planes) < bits_per_number(lanes) else [lanes]


def pack(numbers: np.ndarray, radix: int) -> np.ndarray:
    """Integers `(n,)` in [0, radix), or booleans -> uint8 of `packed_shape(n, radix)`."""
    if radix not in LANES:
        bits = [np.packbits((numbers >> bit) & 1, bitorder="little") for bit in range(_width(radix))]
        return np.stack(bits)
    if radix == 2:
        return np.packbits(numbers, bitorder="little")
    lanes = LANES[radix]
    padded = np.pad(numbers.astype(np.uint8), (0, -numbers.size % lanes)).reshape(-1, lanes)
    powers = np.array([radix**lane for lane in range(lanes)], np.uint8)
    return np.asarray((padded * powers).sum(axis=1, dtype=np.uint8))


def packed_shape(count: int, radix: int) -> tuple[int, ...]:
    """Shape of what `pack` gives for `count` numbers; its product is their bytes."""
    return (-(-count // LANES[radix]),) if radix in LANES else (_width(radix), -(-count // 8))


def bits_per_number(radix: int) -> float:
    """Storage of one number, padding not counted."""
    return 8 / LANES[radix] if radix in LANES else _width(radix)


@decoder
def byte_digits(powers: list[int], radix: list[int]) -> UINT8[256, "lanes"]:
    """This decoder gives the digits that each byte holds."""
    byte = op.Unsqueeze(op.Range(0, 256, 1), [1])
    digits = op.Mod(op.Div(byte, op.Constant(value_ints=powers)), op.Constant(value_ints=radix))
    return op.Cast(digits, to=TensorProto.UINT8)


@decoder
def byte_flags(digits: UINT8[256, 8]) -> BOOL[256, 8]:
    """This decoder gives the bits of each byte as booleans."""
    return op.Cast(digits, to=TensorProto.BOOL)


@decoder
def byte_moves(digits: UINT8[256, "lanes"]) -> UINT8[256, "lanes"]:
    """-1 - digit of each byte, as the byte of an int8."""
    return op.Cast(op.Sub(op.Constant(value=LAST), op.Cast(digits, to=TensorProto.INT32)), to=TensorProto.UINT8)


@decoder
def unpack_flags(packed: UINT8["bytes"], flags: BOOL[256, 8], count: list[int]) -> BOOL["count"]:
    """This decoder gives the first `count` bits as booleans."""
    bits = op.Reshape(op.Gather(flags, op.Cast(packed, to=TensorProto.INT32)), [-1])
    first = op.Constant(value_ints=[0])
    return op.Slice(bits, first, op.Constant(value_ints=count), first)


@decoder
def unpack(packed: UINT8["bytes"], digits: UINT8[256, "lanes"]) -> UINT8["numbers"]:
    """This decoder gives all numbers, those of the padding too."""
    return op.Reshape(op.Gather(digits, op.Cast(packed, to=TensorProto.INT32)), [-1])


@decoder
def unpack_planes(packed: UINT8["width", "bytes"], digits: UINT8[256, 8], powers: list[int]) -> UINT8["numbers"]:
    """This decoder gives all numbers stored as planes, those of the padding too: the bits times `powers`, 1, 2, 4,
    ..."""
    bits = op.Reshape(op.Gather(digits, op.Cast(packed, to=TensorProto.INT32)), [0, -1])
    weights = op.Cast(op.Unsqueeze(op.Constant(value_ints=powers), [0]), to=TensorProto.UINT8)
    return op.Cast(op.Reshape(op.MatMulInteger(weights, bits), [-1]), to=TensorProto.UINT8)


def _digits(radix: int) -> Call:
    powers = [radix**lane for lane in range(LANES[radix])]
    return Call("byte_digits", (), digits_role(radix), {"powers": powers, "radix": [radix]})


def digits_role(radix: int) -> str:
    """Return the shared table of the digits in each byte."""
    return f"@{radix}"


def moves_role(radix: int) -> str:
    """Return the shared table of -1 - digit."""
    return f"@{radix}-"


def flags_transient(count: int) -> int:
    """Count the bytes that `unpack_flags` computes, its result among them."""
    return 4 * -(-count // 8) + 3 * count


def unpack_transient(count: int, radix: int) -> int:
    """Count the bytes that the decoders of `unpack_call` compute, their result among them."""
    stored = math.prod(packed_shape(count, radix))
    if radix in LANES:
        return 4 * stored + 2 * count
    return (4 + 8 + 8) * stored + (4 + 4 + 1) * count


FLAGS = "@flags"
"""The shared table of the bits in each byte."""
SHARED = {
    call.output: call
    for call in (
        *(_digits(radix) for radix in LANES),
        *(Call("byte_moves", (digits_role(radix),), moves_role(radix), {}) for radix in LANES),
        Call("byte_flags", (digits_role(2),), FLAGS, {}),
    )
}
"""What decoders of several weights read, by role, in an order that computes: a file holds each call once."""


def unpack_call(role: str, radix: int, output: str) -> Call:
    """Decode a field of `pack` to uint8 numbers."""
    if radix in LANES:
        return Call("unpack", (role, digits_role(radix)), output, {})
    powers = [1 << bit for bit in range(_width(radix))]
    return Call("unpack_planes", (role, digits_role(2)), output, {"powers": powers})


def _width(radix: int) -> int:
    return radix.bit_length() - 1
