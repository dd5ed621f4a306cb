"""The lowest version that knows the operands."""

import numpy as np
import pytest

from export.tflite.file.operator_versions import layer_version, operator_version
from export.tflite.weights.form import HYBRID_OPERATORS

FLOAT, INT8, INT32 = np.dtype(np.float32), np.dtype(np.int8), np.dtype(np.int32)


@pytest.mark.parametrize(
    ("code", "operand", "result", "version"),
    [
        ("CONV_2D", FLOAT, FLOAT, 1),
        ("CONV_2D", INT8, INT8, 3),
        ("DEQUANTIZE", INT8, FLOAT, 2),
        ("QUANTIZE", FLOAT, INT8, 1),
        ("QUANTIZE", INT8, INT8, 2),
        ("CAST", INT32, FLOAT, 1),
    ],
)
def test_by_types(code: str, operand: np.dtype, result: np.dtype, version: int) -> None:
    assert operator_version(code, operand, result) == version


def test_what_is_not_written_for_codes() -> None:
    with pytest.raises(AssertionError, match="TANH is not written for int8"):
        operator_version("TANH", INT8, INT8)


def test_layers_by_the_form_of_their_weight() -> None:
    assert layer_version("CONV_2D", "dense", hybrid=False) is None
    assert layer_version("FULLY_CONNECTED", "int4", hybrid=False) == 10
    assert layer_version("CONV_2D", "int4", hybrid=True) == 7
    for code in HYBRID_OPERATORS:
        assert layer_version(code, "dense", hybrid=True) is not None
