"""This codec stores positions as a mask of two levels: one bit for each block of 4, 8 or 16 weights, and one for each
weight of blocks that are not empty.

Weights in a row that are zero together, as in pruned kernels, cost one bit a block.
"""

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto
from onnxscript import BOOL, INT8, UINT8
from onnxscript import opset13 as op

from export.onnx.storage.bits import FLAGS, flags_transient, pack, packed_shape, unpack_flags
from export.onnx.storage.decoder import decoder
from export.onnx.storage.part import Call, Field, Part
from export.onnx.storage.positions import mask_transient, place_by_mask
from export.onnx.storage.weight import CodedWeight

BLOCK_SIZES = (4, 8, 16)
UNSET = onnx.helper.make_tensor("", TensorProto.BOOL, [1, 1], [False])


@decoder
def two_level_mask(
    blocks: UINT8["bytes"],
    inner: UINT8["more_bytes"],
    flags: BOOL[256, 8],
    values: UINT8["nnz"],
    shape: list[int],
    numel: list[int],
    count: list[int],
    row: list[int],
) -> INT8[...]:
    """Block i of `count` has the bits of the next row of `inner` where bit i of `blocks` is set, else none."""
    used = op.Cast(unpack_flags(blocks, flags, count=count), to=TensorProto.INT32)
    # Row 0 is the empty one. The last byte's padding, if any, is a row more.
    rows = op.Reshape(op.Gather(flags, op.Cast(inner, to=TensorProto.INT32)), op.Constant(value_ints=row))
    empty = op.Expand(op.Constant(value=UNSET), op.Abs(op.Constant(value_ints=row)))
    bits = op.Gather(op.Concat(empty, rows, axis=0), op.Mul(op.CumSum(used, 0), used))
    first = op.Constant(value_ints=[0])
    bits = op.Slice(op.Reshape(bits, [-1]), first, op.Constant(value_ints=numel), first)
    return place_by_mask(bits, values, shape=shape)


def two_level_mask_part(weight: CodedWeight, block: int) -> Part:
    """ceil(blocks / 8) + ceil(used blocks * block / 8) bytes."""
    used = _in_blocks(weight, block).any(axis=1)
    fields = (
        Field("blocks", TensorProto.UINT8, packed_shape(used.size, 2)),
        Field("inner", TensorProto.UINT8, packed_shape(int(used.sum()) * block, 2)),
    )
    attributes = {"shape": weight.shape, "numel": [weight.numel], "count": [used.size], "row": [-1, block]}
    call = Call("two_level_mask", ("blocks", "inner", FLAGS, "values"), "codes", attributes)

    def encode(weight: CodedWeight) -> Mapping[str, np.ndarray]:
        mask = _in_blocks(weight, block)
        used = mask.any(axis=1)
        return {"blocks": pack(used, 2), "inner": pack(mask[used].reshape(-1), 2)}

    # Beside the two halves: indices of blocks as int32, and the mask as rows, once looked up and once in line.
    transient = flags_transient(used.size) + 3 * 4 * used.size + flags_transient(int(used.sum()) * block)
    transient += 3 * weight.numel + mask_transient(weight.numel, weight.nnz)
    return Part(f"two-level {block}", fields, (call,), transient, encode)


def _in_blocks(weight: CodedWeight, block: int) -> np.ndarray:
    """The mask in rows of one block, the last filled up with zeros."""
    mask = weight.mask
    return np.pad(mask, (0, -mask.size % block)).reshape(-1, block)
