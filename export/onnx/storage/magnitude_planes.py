"""This codec stores levels as a sign bit and magnitudes in planes: the frequent ones in the first plane, rarer ones in
the planes behind it.

A plane holds one digit for every value that reaches it. Its last digit says that the value is in the next plane; each
of the others is a magnitude, the most frequent ones first. With radix 2 throughout these are unary planes; with radix 4
the code follows the usual distributions within about 3 % of their entropy, in two planes.
"""

from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np
from onnx import TensorProto
from onnxscript import BOOL, UINT8
from onnxscript import opset13 as op

from export.onnx.storage.bits import (
    FLAGS,
    LANES,
    bits_per_number,
    digits_role,
    flags_transient,
    pack,
    packed_shape,
    unpack_flags,
    unpack_transient,
)
from export.onnx.storage.decoder import decoder
from export.onnx.storage.fixed_width import look_up
from export.onnx.storage.part import Call, Field, Part
from export.onnx.storage.positions import ZERO
from export.onnx.storage.weight import CodedWeight

RADICES = tuple(radix for radix in LANES if radix < 256)
MAX_PLANES = 4
"""So many planes have mixed radices; more gain next to nothing."""
MAX_UNARY_PLANES = 7
"""Enough for 4-bit levels."""


@decoder
def magnitude_plane(
    packed: UINT8["bytes"],
    digits: UINT8[256, "lanes"],
    table: UINT8["radix"],
    further: UINT8["fewer"],
) -> UINT8["values"]:
    """table[digit], or the next of `further` where that is 0."""
    magnitude = look_up(packed, digits, table)
    here = op.Cast(magnitude, to=TensorProto.BOOL)
    rank = op.CumSum(op.Cast(op.Not(here), to=TensorProto.INT32), 0)
    nearest = op.GatherElements(op.Concat(op.Constant(value=ZERO), further, axis=0), rank)
    return op.Where(here, magnitude, nearest)


@decoder
def sign(magnitudes: UINT8["numbers"], packed: UINT8["bytes"], flags: BOOL[256, 8], count: list[int]) -> UINT8["count"]:
    """This decoder gives the negative magnitude, as the byte of an int8, where a bit is 1."""
    first = op.Constant(value_ints=[0])
    magnitude = op.Slice(magnitudes, first, op.Constant(value_ints=count), first)
    opposite = op.Cast(op.Neg(op.Cast(magnitude, to=TensorProto.INT8)), to=TensorProto.UINT8)
    return op.Where(unpack_flags(packed, flags, count=count), opposite, magnitude)


def magnitude_planes_part(weight: CodedWeight, radices: tuple[int, ...]) -> Part:
    """ceil(nnz / 8) bytes of signs, `packed_shape` of every plane, the radices.

    Args:
        weight: Its non-zero codes are stored.
        radices: Of the planes; together they hold every magnitude: sum(radix - 1) + 1 at least.
    """
    symbols, counts = _by_frequency(weight)
    firsts = np.cumsum([0, *(radix - 1 for radix in radices[:-1])])
    reach = [int(counts[first:].sum()) for first in firsts]
    fields: list[Field] = []
    calls: list[Call] = []
    last = len(radices) - 1
    for plane in range(last, -1, -1):
        radix = radices[plane]
        fields.append(Field(f"plane{plane}", TensorProto.UINT8, packed_shape(reach[plane], radix)))
        fields.append(Field(f"table{plane}", TensorProto.UINT8, (radix,)))
        output = f"magnitudes{plane}"
        inputs = (f"plane{plane}", digits_role(radix), f"table{plane}")
        if plane == last:
            calls.append(Call("look_up", inputs, output, {}))
        else:
            calls.append(Call("magnitude_plane", (*inputs, f"magnitudes{plane + 1}"), output, {}))
    fields.append(Field("signs", TensorProto.UINT8, packed_shape(weight.nnz, 2)))
    calls.append(Call("sign", ("magnitudes0", "signs", FLAGS), "values", {"count": [weight.nnz]}))

    def encode(weight: CodedWeight) -> Mapping[str, np.ndarray]:
        values = weight.values
        index = np.zeros(128, int)
        index[symbols] = np.arange(symbols.size)
        symbol = index[np.abs(values)]
        arrays = {"signs": pack(values < 0, 2)}
        for plane, (radix, first) in enumerate(zip(radices, firsts, strict=True)):
            symbol = symbol[symbol >= first]
            held = symbols[first : first + radix - (plane < last)].astype(np.int8)
            # The last plane has no way on: its free digits are padding.
            arrays[f"table{plane}"] = np.resize(held, radix) if plane == last else np.append(held, np.int8(0))
            arrays[f"plane{plane}"] = pack(np.minimum(symbol - first, radix - 1), radix)
        return arrays

    transient = sum(unpack_transient(count, radix) for count, radix in zip(reach, radices, strict=True))
    # Every plane but the last: two flags, a rank, the further values twice. Then the signs.
    transient += sum((1 + 1 + 4 + 4 + 1 + 1) * count + further for count, further in pairwise(reach))
    transient += flags_transient(weight.nnz) + 5 * weight.nnz
    codec = "unary planes" if set(radices) == {2} else f"planes {','.join(map(str, radices))}"
    return Part(codec, tuple(fields), tuple(calls), transient, encode)


def best_radices(weight: CodedWeight) -> Iterator[tuple[int, ...]]:
    """Find the radices with the fewest bits for every number of planes, from two on; and unary planes."""
    _, counts = _by_frequency(weight)
    tails = np.append(np.cumsum(counts[::-1])[::-1], 0)
    best: dict[int, tuple[float, tuple[int, ...]]] = {}

    def extend(radices: tuple[int, ...], first: int, bits: float) -> None:
        planes = len(radices) + 1
        if planes > MAX_PLANES or (planes > 2 and planes > counts.size - 1):
            return
        for radix in RADICES:
            total = bits + bits_per_number(radix) * float(tails[first])
            if first + radix >= counts.size:
                if planes > 1 and total < best.get(planes, (np.inf, ()))[0]:
                    best[planes] = (total, (*radices, radix))
                break
            extend((*radices, radix), first + radix - 1, total)

    extend((), 0, 0.0)
    if MAX_PLANES < counts.size - 1 <= MAX_UNARY_PLANES:
        best[counts.size - 1] = (0.0, (2,) * (counts.size - 1))
    return iter(radices for _, radices in best.values())


def _by_frequency(weight: CodedWeight) -> tuple[np.ndarray, np.ndarray]:
    """Magnitudes that occur, and how often; the most frequent first."""
    magnitudes = np.arange(1, 128)
    counts = weight.counts[128 + magnitudes] + weight.counts[128 - magnitudes]
    order = np.argsort(-counts, kind="stable")
    order = order[counts[order] > 0]
    return magnitudes[order], counts[order]
