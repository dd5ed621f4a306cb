"""The integer grid: snapping by hand and by property, and what a WeightEncoding refuses."""

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from codeq.quantizer.grid import SNAP_TOLERANCE, WeightEncoding, fit_quant_max, snap_shift

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    ("ratio", "quant_max", "limit", "expected"),
    [
        (0.0, 7, 127, (1, 0)),
        (-0.5, 7, 127, (2, -1)),
        (2.04, 7, 127, (1, 2)),  # within the tolerance: the smaller multiplier wins, though 27 / 13 is nearer
        (2.5, 7, 127, (2, 5)),
        (1 / 3, 7, 127, (3, 1)),
        (0.12, 126, 127, (1, 0)),  # no room for a multiplier: the nearest that fits
        (60.4, 7, 127, (1, 60)),
    ],
)
def test_snap_by_hand(ratio: float, quant_max: int, limit: int, expected: tuple[int, int]) -> None:
    multiplier, offset = snap_shift(ratio, quant_max, limit)
    assert (multiplier, offset) == expected


@given(
    bits=st.integers(2, 8),
    dead_fraction=st.floats(0.0, 0.755),
    limit=st.sampled_from([127, 63, 31]),
)
def test_snapped_grid_fits_and_is_the_nearest_useful(bits: int, dead_fraction: float, limit: int) -> None:
    wanted = 2 ** (bits - 1) - 1
    quant_max = fit_quant_max(wanted, dead_fraction, limit)
    ratio = dead_fraction / (1 - dead_fraction) * (quant_max - 0.5) - 0.5
    multiplier, offset = snap_shift(ratio, quant_max, limit)
    assert 1 <= quant_max <= wanted
    assert multiplier >= 1
    assert multiplier + offset >= 1
    assert multiplier * quant_max + offset <= limit
    error = abs(offset / multiplier - ratio)
    assert error <= 0.5 + 1e-3
    if (2 / SNAP_TOLERANCE) * (quant_max + ratio + 1) <= limit:
        assert error <= SNAP_TOLERANCE + 1e-6


def encoding(**changes: object) -> WeightEncoding:
    fields: dict[str, object] = {
        "codes": torch.tensor([[0, 5, -5], [8, -11, 0]], dtype=torch.int8),
        "scale": torch.tensor(0.5),
        "bit_width": 3,
        "quant_max": 3,
        "multiplier": 3,
        "offset": 2,
    }
    return WeightEncoding(**(fields | changes))  # type: ignore[arg-type]


def test_levels_values_and_counts_by_hand() -> None:
    record = encoding()
    assert record.levels.tolist() == [[0, 1, -1], [2, -3, 0]]
    assert record.dequantize().tolist() == [[0.0, 2.5, -2.5], [4.0, -5.5, 0.0]]
    assert (record.nnz, record.top_code) == (4, 11)
    assert record.sparsity == pytest.approx(1 / 3)
    # Two zeros of six and four codes once each: 6 * (1/3 log2 3 + 4/6 log2 6).
    assert record.entropy_bits() == pytest.approx(6 * (1 / 3 * 1.584962501 + 4 / 6 * 2.584962501))


def test_per_channel_scale_and_shift() -> None:
    record = encoding(
        scale=torch.tensor([1.0, 2.0]), axis=0, multiplier=1, offset=0, shift=torch.tensor([0.25, 0.5]), quant_max=3
    )
    record = dataclasses.replace(record, codes=torch.tensor([[0, 1, -2], [3, 0, -1]], dtype=torch.int8))
    assert record.dequantize().tolist() == [[0.0, 1.25, -2.25], [6.5, 0.0, -2.5]]


def test_all_zero_codes_have_no_entropy() -> None:
    assert encoding(codes=torch.zeros(4, dtype=torch.int8)).entropy_bits() == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codes": torch.zeros(2)}, "dtype torch.float32, expected torch.int8"),
        ({"scale": torch.ones(3)}, r"scale is torch.float32 of shape \(3,\)"),
        ({"scale": torch.ones(3), "axis": 0}, r"expected torch.float32 of shape \(2,\)"),
        ({"scale": torch.tensor(0.0)}, "scale must be positive"),
        ({"scale": torch.tensor(float("nan"))}, "scale must be positive"),
        ({"quant_max": 4}, "quant_max 4 does not fit bit_width 3"),
        ({"multiplier": 0}, "multiplier 0"),
        ({"multiplier": 60}, "multiplier 60"),
        ({"shift": torch.ones(2)}, "shift is"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encoding(**changes)
