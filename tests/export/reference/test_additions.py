"""Forms of QLinearAdd: each is held to another way to compute it; test_machine.py holds one to the kernel here."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from export.reference.additions import add_fused, add_in_integers, add_plainly, add_unfused
from export.reference.machine import Codes

FORMS: dict[str, Callable[..., Any]] = {
    "x86": add_fused,
    "x86-sse": add_unfused,
    "arm": add_in_integers,
    "wasm": add_plainly,
}
GRIDS = [
    (0.021, 128, 0.034, 97, 0.047, 114),
    (0.5, 0, 0.25, 255, 1.0, 7),  # powers of two: many exact ties
    (1e-3, 12, 0.7, 200, 0.9, 31),
    (3.0, 1, 2.9, 254, 0.012, 128),  # ratios near 2^8
    (1e-6, 3, 0.5, 4, 0.6, 5),  # a ratio below 2^-14
    (0.5, 10, 0.125, 20, 0.001, 128),  # one above 2^8
]


def all_codes(form: Callable[..., Any], grid: tuple[float, ...]) -> np.ndarray:
    """Compute all sums of two codes by a form, uint8 of 256 x 256."""
    sa, za, sb, zb, sy, zy = grid
    a, b = torch.meshgrid(torch.arange(256.0), torch.arange(256.0), indexing="ij")
    first, second = Codes(a - za, torch.tensor(sa), za), Codes(b - zb, torch.tensor(sb), zb)
    pending = form(None, first, second)
    assert pending.zero_inside
    steps = pending.steps(torch.tensor(sy), float(zy))
    found: np.ndarray = steps.round().clamp(0, 255).to(torch.uint8).numpy()
    return found


def on_neon(grid: tuple[float, ...]) -> np.ndarray | None:
    """Add as NEON's instructions do: products in 32 bits, vsra by the sign, vrshl; None beyond their limits."""
    sa, za, sb, zb, sy, zy = grid
    ratios = np.float32(sa) / np.float32(sy), np.float32(sb) / np.float32(sy)
    shift = 21 - math.floor(math.log2(max(ratios)))
    if min(ratios) < 2**-14 or max(ratios) >= 256 or not 13 <= shift <= 31:
        return None
    multipliers = [np.int32(np.rint(np.float64(ratio) * 2.0**shift)) for ratio in ratios]
    a, b = np.meshgrid(np.arange(256, dtype=np.int32), np.arange(256, dtype=np.int32), indexing="ij")
    total = (a - np.int32(za)) * multipliers[0] + (b - np.int32(zb)) * multipliers[1]
    assert total.dtype == np.int32
    total = total + (total >> 31)
    rounded = (total.astype(np.int64) + (1 << (shift - 1))) >> shift
    narrow = np.clip(rounded, -(2**15), 2**15 - 1)
    return np.clip(np.clip(narrow + int(zy), -(2**15), 2**15 - 1), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("grid", GRIDS)
def test_arm_adds_in_integers(grid: tuple[float, ...]) -> None:
    expected = on_neon(grid)
    if expected is None:
        expected = all_codes(add_plainly, grid)
    assert np.array_equal(all_codes(add_in_integers, grid), expected)


@pytest.mark.parametrize("grid", GRIDS)
def test_without_fma_every_product_is_rounded(grid: tuple[float, ...]) -> None:
    sa, za, sb, zb, sy, zy = map(np.float32, grid)
    a, b = np.meshgrid(np.arange(256, dtype=np.float32), np.arange(256, dtype=np.float32), indexing="ij")
    ra, rb = sa / sy, sb / sy
    offset = zy - (ra * za + rb * zb)
    expected = np.clip(np.rint((offset + a * ra) + b * rb), 0, 255).astype(np.uint8)
    assert np.array_equal(all_codes(add_unfused, grid), expected)
    ours = np.clip(np.rint((sa * (a - za) + sb * (b - zb)) / sy + zy), 0, 255).astype(np.uint8)
    assert np.array_equal(all_codes(add_plainly, grid), ours)


@pytest.mark.parametrize("grid", GRIDS[:4])
@pytest.mark.parametrize("form", FORMS)
def test_forms_differ_in_ties_alone(form: str, grid: tuple[float, ...]) -> None:
    found = all_codes(FORMS[form], grid)
    sa, za, sb, zb, sy, zy = grid
    a, b = np.meshgrid(np.arange(256), np.arange(256), indexing="ij")
    exact = (np.float64(np.float32(sa)) * (a - za) + np.float64(np.float32(sb)) * (b - zb)) / np.float32(sy) + zy
    off = found != np.clip(np.rint(exact), 0, 255)
    distance = np.abs(exact - np.floor(exact) - 0.5)
    assert (distance[off] < 1e-3).all()
    assert np.abs(found.astype(int) - np.clip(np.rint(exact), 0, 255)).max() <= 1


def test_the_forms_are_not_one() -> None:
    """Exact ties go to the even code in floats and away from zero in Arm's integers."""
    codes = {name: all_codes(form, (0.5, 0.0, 0.5, 0.0, 1.0, 0.0)) for name, form in FORMS.items()}
    assert codes["arm"][1, 0] == 1
    assert [codes[name][1, 0] for name in ("x86", "x86-sse", "wasm")] == [0, 0, 0]
