"""These decoders put non-zero values in their places: by a bit for every weight, or by counting on from one to the
next.

Every codec of positions ends in one of them. Both take the values in order, and give the codes in their shape. Values
may be more than are needed: the padding of what they were stored in is never read. They are the codes' bytes as uint8
until the end: onnxruntime's Where takes no int8 before release 1.26.

Counting begins behind the last weight and goes to the front. Places are then -1, -2, ..., which ScatterElements takes
as indices from the end: with moves of -1 - gap their running sum is the index itself. A gap of 2 zeros is the move -3,
byte 253; after a first move of -1 it sets weight n - 4.
"""

import onnx
from onnx import TensorProto
from onnxscript import BOOL, INT8, INT32, UINT8
from onnxscript import opset13 as op

from export.onnx.storage.decoder import decoder


def mask_transient(numel: int, nnz: int) -> int:
    """Count the bytes that `place_by_mask` computes, its result not among them."""
    return (4 + 4 + 1 + 1 + 1) * numel + nnz


def advance_transient(symbols: int, numel: int, nnz: int) -> int:
    """Count the bytes that `place_by_advance` computes, its result not among them."""
    return (4 + 1 + 1 + 1) * symbols + nnz + 2 * numel


ZERO = onnx.helper.make_tensor("", TensorProto.UINT8, [1], [0])


@decoder
def place_by_mask(bits: BOOL["numel"], values: UINT8["nnz"], shape: list[int]) -> INT8[...]:
    """Weight i is the next value where bits[i] is set, else zero: the next one is number cumsum(bits)[i]."""
    zero = op.Constant(value=ZERO)
    rank = op.CumSum(op.Cast(bits, to=TensorProto.INT32), 0)
    nearest = op.GatherElements(op.Concat(zero, values, axis=0), rank)
    codes = op.Cast(op.Where(bits, nearest, zero), to=TensorProto.INT8)
    return op.Reshape(codes, op.Constant(value_ints=shape))


@decoder
def place_by_advance(
    advance: INT32["symbols"],
    carries: BOOL["symbols"],
    rank: INT32["symbols"],
    values: UINT8["nnz"],
    shape: list[int],
    numel: list[int],
) -> INT8[...]:
    """From behind the end, symbol i moves by advance[i], at most -1, and sets that weight: to the next value if it
    carries one, else to zero. `rank` counts those that carry one.

    Counted from the end, places are -1, -2, ...: the sums as they are, and valid indices of ScatterElements.
    """
    zero = op.Constant(value=ZERO)
    nearest = op.GatherElements(op.Concat(zero, values, axis=0), rank)
    placed = op.Cast(op.Where(carries, nearest, zero), to=TensorProto.INT8)
    blank = op.Expand(op.Cast(zero, to=TensorProto.INT8), op.Constant(value_ints=numel))
    codes = op.ScatterElements(blank, op.CumSum(advance, 0), placed, axis=0)
    return op.Reshape(codes, op.Constant(value_ints=shape))
