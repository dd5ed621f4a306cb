"""This codec stores the positions of non-zero weights as one bit a weight: the fewest bytes up to about 60 % zeros."""

from onnx import TensorProto
from onnxscript import BOOL, INT8, UINT8

from export.onnx.storage.bits import FLAGS, flags_transient, pack, packed_shape, unpack_flags
from export.onnx.storage.decoder import decoder
from export.onnx.storage.part import Call, Field, Part
from export.onnx.storage.positions import mask_transient, place_by_mask
from export.onnx.storage.weight import CodedWeight


@decoder
def bitmask(
    mask: UINT8["bytes"],
    flags: BOOL[256, 8],
    values: UINT8["nnz"],
    shape: list[int],
    numel: list[int],
) -> INT8[...]:
    """Weight i is not zero where bit i is set."""
    return place_by_mask(unpack_flags(mask, flags, count=numel), values, shape=shape)


def bitmask_part(weight: CodedWeight) -> Part:
    """ceil(numel / 8) bytes."""
    field = Field("mask", TensorProto.UINT8, packed_shape(weight.numel, 2))
    attributes = {"shape": weight.shape, "numel": [weight.numel]}
    call = Call("bitmask", ("mask", FLAGS, "values"), "codes", attributes)
    transient = flags_transient(weight.numel) + mask_transient(weight.numel, weight.nnz)
    return Part("bitmask", (field,), (call,), transient, lambda weight: {"mask": pack(weight.mask, 2)})
