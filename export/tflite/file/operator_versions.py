"""This table lists the operators that are written: their options by the schema's name, and their versions.

A version says what a runtime must know; the lowest that covers the operands is written, so that old runtimes open the
file. Source: TFLite's register.cc and op_version.cc; the ones of convolutions, linear layers and means were also run.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from export.tflite.file.graph import Form


@dataclass(frozen=True)
class OperatorKind:
    """Describes an operator: `options` is "" where it has none, `int8_version` None where it is written for floats."""

    options: str
    float_version: int = 1
    int8_version: int | None = None


OPERATORS: Mapping[str, OperatorKind] = {
    "ABS": OperatorKind("AbsOptions"),
    "ADD": OperatorKind("AddOptions", 1, 2),
    "ARG_MAX": OperatorKind("ArgMaxOptions"),
    "ARG_MIN": OperatorKind("ArgMinOptions"),
    "AVERAGE_POOL_2D": OperatorKind("Pool2DOptions"),
    "BATCH_MATMUL": OperatorKind("BatchMatMulOptions"),
    "CAST": OperatorKind("CastOptions"),
    "CEIL": OperatorKind(""),
    "CONCATENATION": OperatorKind("ConcatenationOptions", 1, 2),
    "CONV_2D": OperatorKind("Conv2DOptions", 1, 3),
    "COS": OperatorKind("CosOptions"),
    "CUMSUM": OperatorKind("CumsumOptions"),
    "DENSIFY": OperatorKind("DensifyOptions", 1, 1),
    "DEPTH_TO_SPACE": OperatorKind("DepthToSpaceOptions", 1, 2),
    "DEPTHWISE_CONV_2D": OperatorKind("DepthwiseConv2DOptions", 1, 3),
    "DEQUANTIZE": OperatorKind("DequantizeOptions", 1, 2),
    "DIV": OperatorKind("DivOptions"),
    "ELU": OperatorKind(""),
    "EQUAL": OperatorKind("EqualOptions"),
    "EXP": OperatorKind("ExpOptions"),
    "FLOOR": OperatorKind(""),
    "FULLY_CONNECTED": OperatorKind("FullyConnectedOptions", 1, 4),
    "GATHER": OperatorKind("GatherOptions", 1, 2),
    "GELU": OperatorKind("GeluOptions"),
    "GREATER": OperatorKind("GreaterOptions"),
    "GREATER_EQUAL": OperatorKind("GreaterEqualOptions"),
    "HARD_SWISH": OperatorKind("HardSwishOptions"),
    "LEAKY_RELU": OperatorKind("LeakyReluOptions"),
    "LESS": OperatorKind("LessOptions"),
    "LESS_EQUAL": OperatorKind("LessEqualOptions"),
    "LOG": OperatorKind(""),
    "LOGICAL_AND": OperatorKind("LogicalAndOptions"),
    "LOGICAL_NOT": OperatorKind("LogicalNotOptions"),
    "LOGICAL_OR": OperatorKind("LogicalOrOptions"),
    "LOGISTIC": OperatorKind(""),
    "LOG_SOFTMAX": OperatorKind("LogSoftmaxOptions"),
    "MAXIMUM": OperatorKind("MaximumMinimumOptions"),
    "MAX_POOL_2D": OperatorKind("Pool2DOptions", 1, 2),
    "MEAN": OperatorKind("ReducerOptions", 1, 2),
    "MINIMUM": OperatorKind("MaximumMinimumOptions"),
    "MUL": OperatorKind("MulOptions", 1, 2),
    "NEG": OperatorKind("NegOptions"),
    "NOT_EQUAL": OperatorKind("NotEqualOptions"),
    "PAD": OperatorKind("PadOptions", 1, 2),
    "PADV2": OperatorKind("PadV2Options", 1, 2),
    "POW": OperatorKind("PowOptions"),
    "PRELU": OperatorKind(""),
    "QUANTIZE": OperatorKind("QuantizeOptions", 1, 2),
    "REDUCE_MAX": OperatorKind("ReducerOptions", 1, 2),
    "REDUCE_MIN": OperatorKind("ReducerOptions", 1, 2),
    "REDUCE_PROD": OperatorKind("ReducerOptions"),
    "RELU": OperatorKind(""),
    "RELU6": OperatorKind(""),
    "RELU_N1_TO_1": OperatorKind(""),
    "RESHAPE": OperatorKind("ReshapeOptions", 1, 1),
    "RESIZE_BILINEAR": OperatorKind("ResizeBilinearOptions", 1, 2),
    "RESIZE_NEAREST_NEIGHBOR": OperatorKind("ResizeNearestNeighborOptions", 1, 2),
    "REVERSE_V2": OperatorKind("ReverseV2Options"),
    "ROUND": OperatorKind(""),
    "RSQRT": OperatorKind(""),
    "SELECT_V2": OperatorKind("SelectV2Options"),
    "SHAPE": OperatorKind("ShapeOptions"),
    "SIGN": OperatorKind("SignOptions"),
    "SIN": OperatorKind(""),
    "SOFTMAX": OperatorKind("SoftmaxOptions"),
    "SPACE_TO_DEPTH": OperatorKind("SpaceToDepthOptions", 1, 2),
    "SQRT": OperatorKind(""),
    "SQUARE": OperatorKind("SquareOptions"),
    "SQUARED_DIFFERENCE": OperatorKind("SquaredDifferenceOptions"),
    "STRIDED_SLICE": OperatorKind("StridedSliceOptions", 1, 2),
    "SUB": OperatorKind("SubOptions"),
    "SUM": OperatorKind("ReducerOptions"),
    "TANH": OperatorKind(""),
    "TOPK_V2": OperatorKind("TopKV2Options"),
    "TRANSPOSE_CONV": OperatorKind("TransposeConvOptions", 3, 3),
    "TRANSPOSE": OperatorKind("TransposeOptions", 1, 2),
}

PER_CHANNEL_DEQUANTIZE = 5
"""The version of DEQUANTIZE that knows a scale per channel."""
INT4_DEQUANTIZE = 6
"""The version that knows codes of four bits."""
INT4_LAYERS: Mapping[str, int] = {"FULLY_CONNECTED": 10}
"""The version of a layer on codes that reads a weight of four bits."""
HYBRID_LAYERS: Mapping[tuple[str, Form], int] = {
    ("CONV_2D", "dense"): 5,
    ("CONV_2D", "int4"): 7,
    ("FULLY_CONNECTED", "dense"): 12,
    ("FULLY_CONNECTED", "int4"): 12,
}
"""The version of a layer on floats that reads codes with a scale per channel, by the form of its weight."""


def operator_version(code: str, operand: np.dtype, result: np.dtype) -> int:
    """Find the version of an operator by the types of its first operand and its result: floats, or int8 codes."""
    kind = OPERATORS[code]
    if code == "QUANTIZE" and operand == np.float32:
        return 1
    version = kind.int8_version if np.int8 in (operand, result) else kind.float_version
    assert version is not None, f"{code} is not written for int8"
    return version


def layer_version(code: str, form: Form, *, hybrid: bool) -> int | None:
    """Find the version of a layer that reads codes of a weight in some form; None for the usual one.

    Args:
        code: The layer's operator.
        form: Of its weight.
        hybrid: Its input is floats.
    """
    if hybrid:
        return HYBRID_LAYERS[code, form]
    return INT4_LAYERS.get(code) if form == "int4" else None
