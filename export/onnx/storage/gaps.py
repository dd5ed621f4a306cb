"""This codec stores positions as gaps: it counts the zeros behind each non-zero weight in 2 to 8 bits, with an escape
for longer runs.

The largest number of the width is the escape: so many zeros and no value; another number follows.
"""

from collections.abc import Mapping

import numpy as np
from onnx import TensorProto
from onnxscript import INT8, UINT8
from onnxscript import opset13 as op

from export.onnx.storage.bits import pack, packed_shape, storage_radices, unpack_call, unpack_transient
from export.onnx.storage.decoder import decoder
from export.onnx.storage.part import Call, Field, Part
from export.onnx.storage.positions import advance_transient, place_by_advance
from export.onnx.storage.weight import CodedWeight

WIDTHS = (2, 3, 4, 5, 6, 7, 8)


@decoder
def gaps(
    numbers: UINT8["numbers"],
    values: UINT8["nnz"],
    shape: list[int],
    numel: list[int],
    count: list[int],
    escape: list[int],
) -> INT8[...]:
    """A gap g below the escape moves by -g - 1 weights; the escape by -escape, and carries no value."""
    first = op.Constant(value_ints=[0])
    gap = op.Cast(op.Slice(numbers, first, op.Constant(value_ints=count), first), to=TensorProto.INT32)
    carries = op.Less(gap, op.Cast(op.Constant(value_ints=escape), to=TensorProto.INT32))
    counted = op.Cast(carries, to=TensorProto.INT32)
    rank = op.CumSum(counted, 0)
    return place_by_advance(op.Sub(op.Neg(gap), counted), carries, rank, values, shape=shape, numel=numel)


def gaps_part(weight: CodedWeight, width: int) -> Part:
    """About width * symbols / 8 bytes (`packed_shape`), symbols = sum over gaps of 1 + gap // escape."""
    radix = storage_radices(1 << width)[0]
    escape = (1 << width) - 1
    lengths, counts = weight.gap_lengths
    symbols = int((counts * (1 + lengths // escape)).sum())
    field = Field("gaps", TensorProto.UINT8, packed_shape(symbols, radix))
    attributes = {"shape": weight.shape, "numel": [weight.numel], "count": [symbols], "escape": [escape]}
    call = Call("gaps", ("numbers", "values"), "codes", attributes)

    def encode(weight: CodedWeight) -> Mapping[str, np.ndarray]:
        escapes, last = np.divmod(weight.gaps, escape)
        numbers = np.full(symbols, escape)
        numbers[np.cumsum(1 + escapes) - 1] = last
        return {"gaps": pack(numbers, radix)}

    calls = (unpack_call("gaps", radix, "numbers"), call)
    transient = unpack_transient(symbols, radix) + (1 + 5 * 4 + 1) * symbols
    transient += advance_transient(symbols, weight.numel, weight.nnz)
    return Part(f"gaps {width}", (field,), calls, transient, encode, backwards=True)
