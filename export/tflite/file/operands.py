"""Check the operands of operators for what LiteRT's kernels take for granted: how many, of which rank, with a grid.

It covers the operators that this package writes, whoever wrote the file. Source: the kernels' own `Prepare` functions,
and files that crashed them.
"""

from collections.abc import Mapping
from typing import Any

from export.errors import ExportError
from export.tflite.file.operator_versions import OPERATORS
from export.tflite.runtime import schema

MANY = 2**16

COUNTS: Mapping[str, tuple[int, int, int]] = {
    **dict.fromkeys(OPERATORS, (1, 1, 1)),
    **dict.fromkeys(("ADD", "SUB", "MUL", "DIV", "POW", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE"), (2, 2, 1)),
    **dict.fromkeys(("EQUAL", "NOT_EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL"), (2, 2, 1)),
    **dict.fromkeys(("LOGICAL_AND", "LOGICAL_OR", "ARG_MAX", "ARG_MIN", "BATCH_MATMUL", "CUMSUM", "GATHER"), (2, 2, 1)),
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "PAD", "PRELU", "TRANSPOSE"), (2, 2, 1)),
    **dict.fromkeys(("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "REVERSE_V2"), (2, 2, 1)),
    **dict.fromkeys(("CONV_2D", "FULLY_CONNECTED"), (2, 3, 1)),
    **dict.fromkeys(("DEPTHWISE_CONV_2D", "PADV2", "SELECT_V2"), (3, 3, 1)),
    "CONCATENATION": (1, MANY, 1),
    "RESHAPE": (1, 2, 1),
    "STRIDED_SLICE": (4, 4, 1),
    "TOPK_V2": (2, 2, 2),
    "TRANSPOSE_CONV": (3, 4, 1),
}
"""Least and most operands, and results. Operands beyond the least may be left out."""
RANKS: Mapping[str, Mapping[int, tuple[int, ...]]] = {
    "CONV_2D": {0: (4,), 1: (4,), 2: (1,)},
    "DEPTHWISE_CONV_2D": {0: (4,), 1: (4,), 2: (1,)},
    "FULLY_CONNECTED": {0: (1, 2, 3, 4, 5, 6), 1: (2,), 2: (1,)},
    "TRANSPOSE_CONV": {0: (1,), 1: (4,), 2: (4,), 3: (1,)},
    "AVERAGE_POOL_2D": {0: (4,)},
    "MAX_POOL_2D": {0: (4,)},
    "RESIZE_BILINEAR": {0: (4,), 1: (1,)},
    "RESIZE_NEAREST_NEIGHBOR": {0: (4,), 1: (1,)},
    "SPACE_TO_DEPTH": {0: (4,)},
    "DEPTH_TO_SPACE": {0: (4,)},
    "PAD": {1: (2,)},
    "PADV2": {1: (2,)},
    "REVERSE_V2": {1: (1,)},
    "TRANSPOSE": {1: (1,)},
    "STRIDED_SLICE": {1: (1,), 2: (1,), 3: (1,)},
}
"""Ranks of operands by their position."""
POSITIVE = ("strideW", "strideH", "filterWidth", "filterHeight", "dilationWFactor", "dilationHFactor", "blockSize")
"""Options of windows, by the names of the schema's Python classes."""
LARGEST_WINDOW = 2**15
SAME_SHAPE = frozenset({"DENSIFY", "DEQUANTIZE", "QUANTIZE"})
"""Operators whose result has their operand's shape: where it says another one, LiteRT writes beyond its memory."""
MOVES = frozenset(
    {
        *("ARG_MAX", "ARG_MIN", "CAST", "CONCATENATION", "DENSIFY", "DEPTH_TO_SPACE", "EQUAL", "GATHER", "GREATER"),
        *("GREATER_EQUAL", "LESS", "LESS_EQUAL", "MAXIMUM", "MINIMUM", "NOT_EQUAL", "PAD", "PADV2", "RESHAPE"),
        *("SELECT_V2", "SHAPE", "SPACE_TO_DEPTH", "STRIDED_SLICE", "TOPK_V2", "TRANSPOSE"),
    }
)
"""Operators that take small integers without a grid too."""


def check_operands(model: Any, subgraph: Any, operator: Any, code: str) -> None:
    """Check one operator; its indices are in range.

    Args:
        model: The schema's `ModelT`.
        subgraph: The operator's.
        operator: The schema's `OperatorT`.
        code: The schema's name of its kind.

    Raises:
        ExportError: What is wrong with it.
    """
    if code not in OPERATORS:
        return
    least, most, results = COUNTS[code]
    operands = [] if operator.inputs is None else [int(number) for number in operator.inputs]
    outputs = [] if operator.outputs is None else [int(number) for number in operator.outputs]
    if not least <= len(operands) <= most or -1 in operands[:least]:
        raise ExportError(f"takes operands {operands}, expected {least if least == most else f'{least} to {most}'}")
    if len(outputs) != results:
        raise ExportError(f"has {len(outputs)} results, expected {results}")
    _check_options(operator, code)
    tensors = [None if number == -1 else subgraph.tensors[number] for number in operands]
    for position, ranks in RANKS.get(code, {}).items():
        tensor = tensors[position] if position < len(tensors) else None
        rank = 0 if tensor is None or tensor.shape is None else len(tensor.shape)
        if tensor is not None and rank not in ranks:
            wanted = " or ".join(map(str, ranks))
            raise ExportError(f"operand {position} has {rank} dimensions, expected {wanted}")
    if code in SAME_SHAPE:
        _check_same_shape(tensors[0], subgraph.tensors[outputs[0]])
    if code not in MOVES:
        fb = schema()
        small = (fb.TensorType.INT8, fb.TensorType.UINT8, fb.TensorType.INT4, fb.TensorType.INT2)
        for number in (*operands, *outputs):
            tensor = None if number == -1 else subgraph.tensors[number]
            if tensor is not None and tensor.type in small and not _is_quantized(tensor):
                raise ExportError(f"tensor {number} holds codes and has no quantization")


def _check_same_shape(operand: Any, result: Any) -> None:
    if any(tensor.shapeSignature is not None for tensor in (operand, result)):
        return  # what a batch makes larger, which LiteRT computes
    before, after = ([] if tensor.shape is None else [*map(int, tensor.shape)] for tensor in (operand, result))
    if before != after:
        raise ExportError(f"makes {after} of {before}")


def _is_quantized(tensor: Any) -> bool:
    grid = tensor.quantization
    return grid is not None and grid.scale is not None and len(grid.scale) > 0


def _check_options(operator: Any, code: str) -> None:
    fb = schema()
    expected = OPERATORS[code].options
    options = operator.builtinOptions
    if expected and options is not None and operator.builtinOptionsType != getattr(fb.BuiltinOptions, expected):
        raise ExportError(f"has {type(options).__name__.removesuffix('T')}, expected {expected}")
    names = [] if not expected else [name for name in POSITIVE if hasattr(getattr(fb, f"{expected}T")(), name)]
    if names and options is None:
        raise ExportError(f"has no {expected}")
    for name in names:
        if not 0 < getattr(options, name) <= LARGEST_WINDOW:
            raise ExportError(f"has {name} {getattr(options, name)}")
    activation = getattr(options, "fusedActivationFunction", 0)
    if activation not in [value for name, value in vars(fb.ActivationFunctionType).items() if name.isupper()]:
        raise ExportError(f"has the unknown activation {activation}")
