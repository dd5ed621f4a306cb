"""Paddings in TensorFlow's two forms, by hand."""

import pytest

from export.tflite.file.graph import SAME, VALID
from export.tflite.operators.window import Padding, plan_padding

NONE = ((0, 0), (0, 0))
ONE = ((1, 1), (1, 1))

Pair = tuple[int, int]
Window = tuple[Pair, Pair, Pair, Pair, tuple[Pair, Pair], Pair]

# sizes, kernel, stride, dilation, zeros, outputs
CASES: dict[str, tuple[Window, Padding]] = {
    "nothing": (((8, 8), (3, 3), (1, 1), (1, 1), NONE, (6, 6)), Padding(VALID, NONE)),
    "same": (((8, 8), (3, 3), (1, 1), (1, 1), ONE, (8, 8)), Padding(SAME, NONE)),
    # TensorFlow would pad one row behind and none in front.
    "stride 2": (((8, 8), (3, 3), (2, 2), (1, 1), ONE, (4, 4)), Padding(VALID, ((1, 0), (1, 0)))),
    "stride 2, odd": (((9, 9), (3, 3), (2, 2), (1, 1), ONE, (5, 5)), Padding(SAME, NONE)),
    "dilated": (((8, 8), (3, 3), (1, 1), (2, 2), ((2, 2), (2, 2)), (8, 8)), Padding(SAME, NONE)),
    "more": (((4, 4), (3, 3), (1, 1), (1, 1), ((2, 2), (2, 2)), (6, 6)), Padding(VALID, ((2, 2), (2, 2)))),
    "never read": (((6, 6), (2, 2), (3, 3), (1, 1), ((0, 1), (0, 1)), (2, 2)), Padding(VALID, NONE)),
}


@pytest.mark.parametrize(("window", "expected"), CASES.values(), ids=CASES)
def test_paddings(window: Window, expected: Padding) -> None:
    plan = plan_padding(*window)
    assert plan == expected
    assert plan.needs_pad == (expected.zeros != NONE)
