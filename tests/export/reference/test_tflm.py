"""Rules of TFLite Micro: gemmlowp's fixed point as its C++ has it, an integer at a time; `make mcu` has the kernels."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from export.reference.machine import Codes
from export.reference.tflm import TFLM, fixed_point, multiply

aten = torch.ops.aten


def by_hand(value: int, multiplier: float) -> int:
    """MultiplyByQuantizedMultiplier of QuantizeMultiplier(multiplier), in Python's integers."""
    mantissa, shift = math.frexp(multiplier)
    fixed = math.floor(Fraction(mantissa) * 2**31 + Fraction(1, 2))
    if fixed == 2**31:
        fixed, shift = fixed // 2, shift + 1
    product = value * 2 ** max(shift, 0) * fixed
    nudged = product + (2**30 if product >= 0 else 1 - 2**30)
    high = -(-nudged // 2**31) if nudged < 0 else nudged // 2**31
    right = max(-shift, 0)
    rest, threshold = high % 2**right, (2**right - 1) // 2 + (high < 0)
    return high // 2**right + (rest > threshold)


def test_a_product_is_rounded_twice() -> None:
    rng = np.random.default_rng(0)
    values = torch.from_numpy(rng.integers(-(2**24), 2**24, 2000))
    multipliers = torch.from_numpy(np.exp(rng.uniform(-14, 1, 2000)))
    found = multiply(values, multipliers).tolist()
    assert found == [by_hand(*pair) for pair in zip(values.tolist(), multipliers.tolist(), strict=True)]
    # 2^30 - 1 times a half is 2^29 - 1/2, which the first rounding makes whole: then half of that rounds once more.
    once = [
        round(Fraction(value) * Fraction(m)) for value, m in zip(values.tolist(), multipliers.tolist(), strict=True)
    ]
    assert 0 < sum(one != two for one, two in zip(once, found, strict=True)) < 50


def test_a_mantissa_that_rounds_up_to_one_moves_the_shift() -> None:
    fixed, shift = fixed_point(torch.tensor([1 - 2.0**-40, 0.5, 0.75]))
    assert fixed.tolist() == [2**30, 2**30, 3 * 2**29]
    assert shift.tolist() == [1, 0, 0]


def codes(values: list[float], scale: float, zero_point: float = 0.0) -> Codes:
    return Codes(torch.tensor(values) - zero_point, torch.tensor(scale), zero_point)


def test_additions_scale_both_operands_to_the_larger() -> None:
    a, b = codes([10.0, 250.0, 0.0], 0.05, 3.0), codes([7.0, 1.0, 255.0], 0.021, 128.0)
    found = TFLM.kernels[aten.add.Tensor](None, a, b).steps(torch.tensor(0.043), 5.0).tolist()
    twice = 2 * float(np.float32(0.05))
    expected = []
    for first, second in zip(a.centered.int().tolist(), b.centered.int().tolist(), strict=True):
        parts = (
            by_hand(first << 20, float(np.float32(0.05)) / twice),
            by_hand(second << 20, float(np.float32(0.021)) / twice),
        )
        expected.append(by_hand(sum(parts), twice / (2**20 * float(np.float32(0.043)))))
    assert found == expected


@pytest.mark.parametrize("count", [4, 9, 25, 64])
def test_means_divide_the_multiplier(count: int) -> None:
    side = math.isqrt(count)
    image = codes(np.random.default_rng(count).integers(0, 256, (1, 1, side, side)).astype(float).tolist(), 0.02, 7.0)
    pending = TFLM.kernels[aten.adaptive_avg_pool2d.default](
        torch.fx.Graph().call_function(aten.adaptive_avg_pool2d.default), image, [1, 1]
    )
    found = float(pending.steps(torch.tensor(0.03), 0.0))
    exact = float(image.centered.sum()) * float(np.float32(0.02)) / float(np.float32(0.03)) / count
    assert abs(found - exact) <= 0.5 + 1e-6
    assert found == int(found)
