"""Signal to noise by hand, and how it is written."""

import math

import numpy as np
import pytest
import torch

from codeq.quantizer.power import LIMIT_DB, Power, decibels_text

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    ("wanted", "found", "decibels"),
    [
        ([3.0, 4.0], [3.0, 4.5], 20.0),  # 25 over 0.25
        ([1.0, 1.0], [1.0, 1.0], LIMIT_DB),
        ([0.0, 0.0], [0.0, 1.0], -LIMIT_DB),
        ([math.inf, -math.inf, 1.0], [math.inf, -math.inf, 1.1], 20.0),
        ([math.inf, 1.0], [3.4e38, 1.0], -LIMIT_DB),
        ([1.0, 1.0], [math.nan, 1.0], -LIMIT_DB),
        ([3e38, 3e38], [3e38, -3e38], 10 * math.log10(0.5)),
    ],
)
def test_decibels_by_hand(wanted: list[float], found: list[float], decibels: float) -> None:
    power = Power()
    power.add(torch.tensor(wanted), torch.tensor(found))
    assert power.decibels == pytest.approx(decibels, abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_large_tensors_are_summed_as_numpy_sums_them_in_float64(dtype: torch.dtype) -> None:
    wanted = 10 * torch.rand(3, 7, 211, 211, generator=torch.Generator().manual_seed(0)).transpose(1, 3).to(dtype)
    found = wanted + (torch.arange(wanted.numel()) % 3).reshape(wanted.shape).to(dtype)
    power = Power()
    power.add(wanted, found)
    signal = np.square(wanted.double().numpy()).sum()
    noise = np.square((wanted - found).double().numpy()).sum()
    assert power.signal == pytest.approx(signal, rel=1e-5)
    assert power.noise == pytest.approx(noise, rel=1e-5)


def test_as_it_is_written() -> None:
    assert [decibels_text(value) for value in (LIMIT_DB, 20.04, -LIMIT_DB)] == ["exact", "20.0 dB", "-200.0 dB"]
