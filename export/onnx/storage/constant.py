"""This codec stores a weight whose codes are all the same, above all a pruned layer, as one node without a tensor."""

from onnx import TensorProto
from onnxscript import INT8
from onnxscript import opset13 as op

from export.onnx.storage.decoder import decoder
from export.onnx.storage.part import Call, Part
from export.onnx.storage.weight import CodedWeight


@decoder
def constant(value: list[int], shape: list[int]) -> INT8[...]:
    """This decoder gives the value everywhere."""
    return op.Expand(op.Cast(op.Constant(value_ints=value), to=TensorProto.INT8), op.Constant(value_ints=shape))


def constant_part(weight: CodedWeight) -> Part:
    """Store a weight of one code: no bytes of data at all."""
    attributes = {"value": [int(weight.alphabet[0])], "shape": weight.shape}
    return Part("constant", (), (Call("constant", (), "codes", attributes),), 0, lambda weight: {})
