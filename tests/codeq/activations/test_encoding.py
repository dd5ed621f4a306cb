"""The grid of an activation: from a range, its codes by hand, numbers that are no grid."""

import math

import numpy as np
import pytest
import torch

from codeq.activations.encoding import ActivationEncoding


@pytest.mark.parametrize(
    ("low", "high", "scale", "zero_point"),
    [
        (0.0, 255.0, 1.0, 0),
        (-1.0, 1.0, 2 / 255, 127),  # float32(2 / 255) is a little above it: -low / scale = 127.49999
        (-255.0, 0.0, 1.0, 255),
        (2.0, 5.1, 0.02, 0),  # widened to hold zero
        (-3.0, -1.0, 3 / 255, 255),
    ],
)
def test_a_range_becomes_a_grid(low: float, high: float, scale: float, zero_point: int) -> None:
    encoding = ActivationEncoding.from_range(low, high)
    assert encoding.scale == float(np.float32(scale))
    assert encoding.zero_point == zero_point


@pytest.mark.parametrize(
    ("scale", "zero_point", "message"),
    [
        (0.0, 0, "expected a normal positive float32"),
        (-1.0, 0, "expected a normal positive float32"),
        (math.nan, 0, "expected a normal positive float32"),
        (1e-42, 0, "expected a normal positive float32"),
        (0.1, 0, "is no float32 number"),
        (1, 0, "expected a normal positive float32"),
        (1.0, 256, "expected 0 to 255"),
        (1.0, 1.5, "expected an integer"),
        (1.0, True, "expected an integer"),
    ],
)
def test_numbers_that_are_no_grid(scale: float, zero_point: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ActivationEncoding(scale, zero_point)


def test_codes_by_hand() -> None:
    encoding = ActivationEncoding(0.5, 10)
    x = torch.tensor([-5.0, -5.26, 0.0, 0.25, 0.75, 0.26, 1e9, -math.inf])
    # 0.25 / 0.5 is halfway between 0 and 1, 0.75 / 0.5 between 1 and 2: both to even.
    assert encoding.quantize(x).tolist() == [0, 0, 10, 10, 12, 11, 255, 0]
    assert (encoding.low, encoding.high) == (-5.0, 122.5)
