"""This codec stores levels as digits of one radix: each digit is a code's index in a table of the codes that occur."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from onnx import TensorProto
from onnxscript import UINT8
from onnxscript import opset13 as op

from export.onnx.storage.bits import (
    LANES,
    bits_per_number,
    digits_role,
    pack,
    packed_shape,
    storage_radices,
    unpack_call,
    unpack_transient,
)
from export.onnx.storage.decoder import decoder
from export.onnx.storage.part import Call, Field, Part
from export.onnx.storage.weight import CodedWeight


@decoder
def look_up(packed: UINT8["bytes"], digits: UINT8[256, "lanes"], table: UINT8["radix"]) -> UINT8["numbers"]:
    """table[digit] of every digit, those of the padding too."""
    codes = op.Gather(table, op.Cast(digits, to=TensorProto.INT32))
    return op.Reshape(op.Gather(codes, op.Cast(packed, to=TensorProto.INT32)), [-1])


@decoder
def look_up_numbers(numbers: UINT8["numbers"], table: UINT8["radix"]) -> UINT8["numbers"]:
    """This decoder gives table[number]."""
    return op.GatherElements(table, op.Cast(numbers, to=TensorProto.INT32))


def fixed_width_parts(weight: CodedWeight) -> Iterator[Part]:
    """`packed_shape(nnz, radix)` and `radix` bytes, for every radix worth having."""
    alphabet = weight.alphabet[weight.alphabet != 0]
    for radix in storage_radices(alphabet.size):
        yield indexed_part(alphabet, radix, weight.nnz, "values", lambda weight: weight.values)


def indexed_part(
    alphabet: np.ndarray, radix: int, count: int, output: str, values: Callable[[CodedWeight], np.ndarray]
) -> Part:
    """Store `count` values out of an ascending alphabet; the role `output` has those of the padding too."""
    fields = (
        Field("levels", TensorProto.UINT8, packed_shape(count, radix)),
        Field("table", TensorProto.UINT8, (radix,)),
    )
    # Every digit has an entry, the padding's zeros among them.
    table = np.resize(alphabet, radix)
    if radix in LANES:
        calls: tuple[Call, ...] = (Call("look_up", ("levels", digits_role(radix), "table"), output, {}),)
    else:
        calls = (unpack_call("levels", radix, "indices"), Call("look_up_numbers", ("indices", "table"), output, {}))

    def encode(weight: CodedWeight) -> Mapping[str, np.ndarray]:
        return {"levels": pack(np.searchsorted(alphabet, values(weight)), radix), "table": table}

    transient = unpack_transient(count, radix) + (0 if radix in LANES else 5 * count)
    return Part(f"{bits_per_number(radix):.2g}-bit", fields, calls, transient, encode)
