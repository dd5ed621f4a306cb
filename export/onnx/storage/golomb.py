"""This codec stores positions as Golomb-coded gaps: within about 3 % of the entropy of zeros that fall independently.

The gaps are those between non-zero weights, from the last to the first. A gap of g zeros is g // m steps of m zeros, a
bit 0 each, then a bit 1; the remainder g % m stands in an array of its own, a digit of radix m (S. W. Golomb, 1966).
"""

from collections.abc import Mapping

import numpy as np
from onnx import TensorProto
from onnxscript import BOOL, INT8, UINT8
from onnxscript import opset13 as op

from export.onnx.storage.bits import (
    FLAGS,
    flags_transient,
    moves_role,
    pack,
    packed_shape,
    unpack,
    unpack_flags,
    unpack_transient,
)
from export.onnx.storage.decoder import decoder
from export.onnx.storage.part import Call, Field, Part
from export.onnx.storage.positions import ZERO, advance_transient, place_by_advance
from export.onnx.storage.weight import CodedWeight

STEPS = {2: 2, 3: 3, 4: 4, 6: 6, 16: 16, 128: 256}
"""m to the radix of remainders: those whose digits fill a byte. With m = 1 it would be the bit mask."""


@decoder
def golomb(
    steps: UINT8["bytes"],
    flags: BOOL[256, 8],
    remainders: UINT8["more_bytes"],
    moves: UINT8[256, "lanes"],
    values: UINT8["nnz"],
    shape: list[int],
    numel: list[int],
    count: list[int],
    step: list[int],
) -> INT8[...]:
    """A bit 0 moves by `step`, the byte of -m; a bit 1 by -1 less the next remainder, which `moves` gives."""
    carries = unpack_flags(steps, flags, count=count)
    rank = op.CumSum(op.Cast(carries, to=TensorProto.INT32), 0)
    move = op.Concat(op.Constant(value=ZERO), unpack(remainders, moves), axis=0)
    skip = op.Cast(op.Constant(value_ints=step), to=TensorProto.UINT8)
    chosen = op.Cast(op.Where(carries, op.GatherElements(move, rank), skip), to=TensorProto.INT8)
    advance = op.Cast(chosen, to=TensorProto.INT32)
    return place_by_advance(advance, carries, rank, values, shape=shape, numel=numel)


def golomb_part(weight: CodedWeight, step: int) -> Part:
    """ceil(count / 8) + ceil(nnz / lanes) bytes, count = nnz + sum over gaps of gap // step, `lanes` of the radix."""
    lengths, counts = weight.gap_lengths
    count = weight.nnz + int((counts * (lengths // step)).sum())
    fields = (
        Field("steps", TensorProto.UINT8, packed_shape(count, 2)),
        Field("remainders", TensorProto.UINT8, packed_shape(weight.nnz, STEPS[step])),
    )
    attributes = {"shape": weight.shape, "numel": [weight.numel], "count": [count], "step": [256 - step]}
    inputs = ("steps", FLAGS, "remainders", moves_role(STEPS[step]), "values")

    def encode(weight: CodedWeight) -> Mapping[str, np.ndarray]:
        quotients, remainders = np.divmod(weight.gaps, step)
        steps = np.zeros(count, bool)
        steps[np.cumsum(1 + quotients) - 1] = True
        return {"steps": pack(steps, 2), "remainders": pack(remainders, STEPS[step])}

    transient = flags_transient(count) + (4 + 4 + 1 + 1 + 1 + 4) * count + unpack_transient(weight.nnz, STEPS[step])
    transient += weight.nnz + advance_transient(count, weight.numel, weight.nnz)
    call = Call("golomb", inputs, "codes", attributes)
    return Part(f"golomb {step}", fields, (call,), transient, encode, backwards=True)
