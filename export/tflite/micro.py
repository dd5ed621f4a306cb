"""TFLite Micro runs .tflite files on microcontrollers: what it can run, and the memory that it needs.

Its kernels follow rules of their own (export/reference/tflm.py), and are compiled in one by one: an operator that the
firmware does not register fails when the file is opened.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from codeq.toolkit.extras import install_hint
from export.errors import DeclinedError
from export.tflite.build import Build
from export.tflite.weights.form import DEQUANTIZE

PACKAGE = "tflite_micro"
_NAMES = (
    "ABS ADD ADD_N ARG_MAX ARG_MIN AVERAGE_POOL_2D BATCH_TO_SPACE_ND BROADCAST_ARGS BROADCAST_TO CAST CEIL "
    "CONCATENATION CONV_2D COS CUMSUM DEPTH_TO_SPACE DEPTHWISE_CONV_2D DEQUANTIZE DIV ELU EQUAL EXP EXPAND_DIMS FILL "
    "FLOOR FLOOR_DIV FLOOR_MOD FULLY_CONNECTED GATHER GATHER_ND GREATER GREATER_EQUAL HARD_SWISH L2_NORMALIZATION "
    "L2_POOL_2D LEAKY_RELU LESS LESS_EQUAL LOG LOGICAL_AND LOGICAL_NOT LOGICAL_OR LOGISTIC LOG_SOFTMAX MAX_POOL_2D "
    "MAXIMUM MEAN MINIMUM MIRROR_PAD MUL NEG NOT_EQUAL PACK PAD PADV2 PRELU QUANTIZE REDUCE_MAX RELU RELU6 RESHAPE "
    "RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR ROUND RSQRT SELECT_V2 SHAPE SIN SLICE SOFTMAX SPACE_TO_BATCH_ND "
    "SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM SVDF TANH TRANSPOSE "
    "TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM UNPACK ZEROS_LIKE "
)
OPERATORS = frozenset(_NAMES.split())
"""Builtin operators that its Python interpreter registers (python/tflite_micro/python_ops_resolver.cc)."""
LARGEST_ARENA = 2**26
MEASURE = f"""
import sys
from tflite_micro.python.tflite_micro import runtime
interpreter = runtime.Interpreter.from_file(sys.argv[1], arena_size={LARGEST_ARENA})
interpreter.print_allocations()
"""
TOTAL = re.compile(r"Arena allocation total (\d+) bytes")


@dataclass(frozen=True)
class Arena:
    """Says what memory the interpreter needs beside the file.

    Attributes:
        size_bytes: As the interpreter reports it, on this machine of 64-bit pointers; None where that is not installed.
        note: How to learn it; empty where it is known.
    """

    size_bytes: int | None
    note: str = ""


def check_micro(build: Build, operators: Iterable[str], target: str) -> None:
    """See that TFLite Micro can run a file.

    Args:
        build: What is going to be written.
        operators: Its operators, by the schema's names.
        target: As it was asked for.

    Raises:
        DeclinedError: It has no such operator, or a layer computes on floats from codes with a scale per channel, which
            it would read wrongly without an error.
    """
    missing = sorted(set(operators) - OPERATORS)
    if missing:
        raise DeclinedError(
            f"--target {target}: TFLite Micro has no {', '.join(missing)}; leave --target out for LiteRT, or build the "
            "network without (export/tflite/micro.py lists what it has)"
        )
    floats = [name for name, form in build.stored.items() if form.reader.operator == DEQUANTIZE]
    if floats:
        more = f" and {len(floats) - 1} more" if len(floats) > 1 else ""
        raise DeclinedError(
            f"--target {target}: {floats[0]}{more} would be computed in float, slowly on a microcontroller, and "
            "wrongly where a weight has a scale for each channel; let no --activations-except name it, or leave "
            "--target out"
        )


def arena_of(content: bytes) -> Arena:
    """Ask the interpreter how much memory a file needs, in a process of its own."""
    if find_spec(PACKAGE) is None:
        return Arena(None, f"the interpreter says it where it is installed: {install_hint('tflm')}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        path.write_bytes(content)
        words = [sys.executable, "-c", MEASURE, str(path)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    found = TOTAL.search(done.stdout + done.stderr)
    return (
        Arena(int(found[1])) if found else Arena(None, "the interpreter does not take the file; try codeq probe-file")
    )
