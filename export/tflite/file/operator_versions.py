"""Operators that are written: the schema's name of their options, and the version for float and for int8 operands.

A version says what a runtime must know; the lowest that covers the operands is written, so that old runtimes open the
file. Source: TFLite's register.cc and op_version.cc; the ones of convolutions, linear layers and means were also run.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from export.tflite.file.graph import Form


@dataclass(frozen=True)
class OperatorKind:
    """`options` is "" where the operator has none; `int8_version` is None where we write it for floats only."""

    options: str
    float_version: int = 1
    int8_version: int | None = None


OPERATORS: Mapping[str, OperatorKind] = {
    "ADD": OperatorKind("AddOptions", 1, 2),
    "AVERAGE_POOL_2D": OperatorKind("Pool2DOptions"),
    "BATCH_MATMUL": OperatorKind("BatchMatMulOptions"),
    "CAST": OperatorKind("CastOptions"),
    "CONCATENATION": OperatorKind("ConcatenationOptions", 1, 2),
    "CONV_2D": OperatorKind("Conv2DOptions", 1, 3),
    "DENSIFY": OperatorKind("DensifyOptions", 1, 1),
    "DEPTHWISE_CONV_2D": OperatorKind("DepthwiseConv2DOptions", 1, 3),
    "DEQUANTIZE": OperatorKind("DequantizeOptions", 1, 2),
    "FULLY_CONNECTED": OperatorKind("FullyConnectedOptions", 1, 4),
    "GATHER": OperatorKind("GatherOptions"),
    "GELU": OperatorKind("GeluOptions"),
    "HARD_SWISH": OperatorKind("HardSwishOptions"),
    "LEAKY_RELU": OperatorKind("LeakyReluOptions"),
    "LOGISTIC": OperatorKind(""),
    "MAXIMUM": OperatorKind("MaximumMinimumOptions"),
    "MAX_POOL_2D": OperatorKind("Pool2DOptions", 1, 2),
    "MEAN": OperatorKind("ReducerOptions", 1, 2),
    "MINIMUM": OperatorKind("MaximumMinimumOptions"),
    "MUL": OperatorKind("MulOptions", 1, 2),
    "PAD": OperatorKind("PadOptions", 1, 2),
    "PADV2": OperatorKind("PadV2Options", 1, 2),
    "QUANTIZE": OperatorKind("QuantizeOptions", 1, 2),
    "RELU": OperatorKind(""),
    "RELU6": OperatorKind(""),
    "RELU_N1_TO_1": OperatorKind(""),
    "RESHAPE": OperatorKind("ReshapeOptions", 1, 1),
    "RESIZE_BILINEAR": OperatorKind("ResizeBilinearOptions"),
    "RESIZE_NEAREST_NEIGHBOR": OperatorKind("ResizeNearestNeighborOptions", 1, 2),
    "RSQRT": OperatorKind(""),
    "SIGN": OperatorKind("SignOptions"),
    "SOFTMAX": OperatorKind("SoftmaxOptions"),
    "SQUARED_DIFFERENCE": OperatorKind("SquaredDifferenceOptions"),
    "STRIDED_SLICE": OperatorKind("StridedSliceOptions", 1, 2),
    "SUB": OperatorKind("SubOptions"),
    "TANH": OperatorKind(""),
    "TRANSPOSE": OperatorKind("TransposeOptions", 1, 2),
}

PER_CHANNEL_DEQUANTIZE = 5
"""The version of DEQUANTIZE that knows a scale per channel."""
INT4_DEQUANTIZE = 6
"""The version that knows codes of four bits."""
BY_READER: Mapping[tuple[str, Form], int] = {
    ("FULLY_CONNECTED", "int4"): 10,
    ("hybrid CONV_2D", "dense"): 5,
    ("hybrid CONV_2D", "int4"): 7,
    ("hybrid FULLY_CONNECTED", "dense"): 12,
    ("hybrid FULLY_CONNECTED", "int4"): 12,
}
"""Of layers, by what reads their weight and its form; hybrid ones with a scale per channel."""


def weight_version(reader: str, form: Form) -> int | None:
    """The version of a layer that reads codes in some form; None for the usual one."""
    return BY_READER.get((reader, form))
