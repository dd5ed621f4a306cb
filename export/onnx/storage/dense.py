"""This codec stores codes densely: as int8, or every code in as few bits as its values need."""

from collections.abc import Iterator

import numpy as np
from onnx import TensorProto
from onnxscript import INT8, UINT8
from onnxscript import opset13 as op

from export.onnx.storage.bits import storage_radices
from export.onnx.storage.decoder import decoder
from export.onnx.storage.fixed_width import indexed_part
from export.onnx.storage.part import Call, Field, Part
from export.onnx.storage.weight import CodedWeight

NATIVE_TYPES = {4: (23, TensorProto.INT4), 2: (25, TensorProto.INT2)}
"""Width to the first opset at which it is used, and its type. ONNX casts INT4 from opset 21 on, but no onnxruntime that
ends at 21 or 22 does (1.18 to 1.22 were tried); every one that opens 23 does."""


def dense_part(weight: CodedWeight) -> Part:
    """numel bytes, no decoder."""
    return Part(
        "dense", (Field("codes", TensorProto.INT8, weight.shape),), (), 0, lambda weight: {"codes": weight.codes}
    )


@decoder
def shaped(values: UINT8["numbers"], numel: list[int], shape: list[int]) -> INT8[...]:
    """This decoder gives the first values as int8 in a shape."""
    first = op.Constant(value_ints=[0])
    whole = op.Cast(op.Slice(values, first, op.Constant(value_ints=numel), first), to=TensorProto.INT8)
    return op.Reshape(whole, op.Constant(value_ints=shape))


def dense_width_parts(weight: CodedWeight) -> Iterator[Part]:
    """`packed_shape(numel, radix)` and `radix` bytes, for every radix worth having."""
    call = Call("shaped", ("values",), "codes", {"numel": [weight.numel], "shape": weight.shape})
    for radix in storage_radices(weight.alphabet.size):
        part = indexed_part(weight.alphabet, radix, weight.numel, "values", lambda weight: weight.flat)
        transient = part.transient_bytes + 2 * weight.numel
        yield Part(f"{part.codec} dense", part.fields, (*part.calls, call), transient, part.encode)


def dense_native_part(weight: CodedWeight, opset: int) -> Part | None:
    """ceil(numel * width / 8) bytes in ONNX's own INT4 or INT2 behind one Cast; None where the codes do not fit.

    They fit where the grid's multiplier is 1 and its offset 0, as on the paper's grid.
    """
    largest = int(np.abs(weight.alphabet.astype(int)).max())
    for width in sorted(NATIVE_TYPES):
        since, data_type = NATIVE_TYPES[width]
        if opset >= since and largest < 1 << (width - 1):
            field = Field("levels", data_type, weight.shape)
            call = Call("Cast", ("levels",), "codes", {"to": TensorProto.INT8}, domain="")
            return Part(
                f"INT{width} dense",
                (field,),
                (call,),
                0,
                lambda weight, width=width: {"levels": _pack(weight.flat, width)},
            )
    return None


def _pack(codes: np.ndarray, width: int) -> np.ndarray:
    """Two's complement, the first code in the lowest bits (ONNX IR specification, TensorProto.raw_data)."""
    lanes = 8 // width
    padded = np.pad(codes.view(np.uint8) & ((1 << width) - 1), (0, -codes.size % lanes)).reshape(-1, lanes)
    return np.asarray((padded << np.arange(0, 8, width, dtype=np.uint8)).sum(axis=1, dtype=np.uint8))
