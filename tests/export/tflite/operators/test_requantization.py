"""Scales that are too far apart are refused: XNNPACK would leave the layer to a kernel with another rounding."""

import numpy as np
import pytest

from export.errors import ExportError
from export.tflite.file.graph import TensorGrid
from export.tflite.operators import requantization


@pytest.mark.parametrize(("code", "scale"), [("ADD", 0.6), ("ADD", 1e-6), ("MUL", 0.6), ("QUANTIZE", 0.3)])
def test_a_ratio_that_the_runtime_refuses(code: str, scale: float) -> None:
    grid = TensorGrid(np.array([0.002], np.float32))
    with pytest.raises(ExportError, match=f"layer: a scale of .*{code}.*--activations-except layer"):
        requantization.check_ratio("layer", code, np.array([scale], np.float32), grid)
    requantization.check_ratio("layer", code, np.array([0.004], np.float32), grid)


def test_a_factor_that_the_runtime_refuses() -> None:
    sums, grid = np.array([0.1, 0.51], np.float32), TensorGrid(np.array([0.002], np.float32))
    with pytest.raises(ExportError, match=r"conv: .* is 256 in channel 1, .*--activations-except conv"):
        requantization.check_requantization("conv", np.array([0.1, 0.512], np.float32), grid)
    requantization.check_requantization("conv", sums, grid)
