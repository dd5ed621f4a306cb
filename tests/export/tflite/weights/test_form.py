"""The smallest form that is asked for and that its reader takes."""

import numpy as np
import pytest

from export.tflite.weights.form import DENSIFY_BYTES, FLOATS, Reader, WeightForms, is_exact

SPARSE = np.zeros((64, 64), np.int8)
SPARSE[0] = 1
FOUR_BITS = np.full((8, 8), 7, np.int8)
CONV, LINEAR = Reader("CONV_2D"), Reader("FULLY_CONNECTED")
HYBRID = Reader("CONV_2D", hybrid=True)
OTHERS = Reader("DEQUANTIZE", layers_only=False)


@pytest.mark.parametrize(
    ("reader", "name"),
    [
        (FLOATS, "DEQUANTIZE"),
        (OTHERS, "DEQUANTIZE for others"),
        (CONV, "CONV_2D"),
        (HYBRID, "hybrid CONV_2D"),
        (Reader("FULLY_CONNECTED", layers_only=False), "FULLY_CONNECTED"),
    ],
)
def test_names_in_reports(reader: Reader, name: str) -> None:
    assert str(reader) == name


@pytest.mark.parametrize(
    ("reader", "csr", "int4"),
    [(FLOATS, True, True), (CONV, True, False), (LINEAR, False, True), (HYBRID, False, True)],
    ids=str,
)
def test_what_is_exact(reader: Reader, csr: bool, int4: bool) -> None:
    assert is_exact("dense", reader)
    assert (is_exact("csr", reader), is_exact("int4", reader)) == (csr, int4)


def test_zeros_are_left_out_where_that_is_smaller() -> None:
    stored = WeightForms().choose(SPARSE, 1, FLOATS)
    # 64 values, their columns, and 65 segments of a byte each.
    assert (stored.form, stored.size_bytes) == ("csr", 64 + 64 + 65 + DENSIFY_BYTES + 4)
    assert WeightForms().choose(FOUR_BITS, 1, FLOATS).form == "dense"
    assert WeightForms(sparse="off").choose(SPARSE, 1, FLOATS).form == "dense"
    assert WeightForms().choose(SPARSE, 1, OTHERS).form == "dense"


def test_four_bits() -> None:
    forms = WeightForms(int4=True)
    assert forms.choose(FOUR_BITS, 2, FLOATS).size_bytes == 32 + 8
    assert forms.choose(FOUR_BITS, 1, CONV).reason == "CONV_2D does not compute exactly on INT4 codes"
    assert forms.choose(FOUR_BITS[:, :7], 1, LINEAR).reason.endswith("on INT4 codes of an odd number of inputs")
    assert forms.choose(FOUR_BITS[:, :7], 1, Reader("FULLY_CONNECTED", hybrid=True)).form == "int4"
    assert forms.choose(2 * FOUR_BITS, 1, FLOATS).reason == "codes from 14 to 14, expected -8 to 7 for INT4"
