"""Weights to level indices and back, by hand."""

import pytest
import torch
from torch import Tensor

from codeq.quantizer.levels import dequantize_levels, quantize_levels


@pytest.mark.parametrize("as_tensor", [False, True])
def test_levels_and_values_by_hand(as_tensor: bool) -> None:
    # Step 0.5, shift 0.25, three levels per sign: |w| up to 0.5 gives 0, then one level per 0.5.
    w = torch.tensor([0.0, -0.0, 0.25, 0.5, 0.51, -0.9, 1.26, -9.0])
    parameters: list[float | Tensor] = [2.0, 0.25, 3.0]
    if as_tensor:
        parameters = [torch.tensor(value) for value in parameters]
    levels, unrounded = quantize_levels(w, *parameters)
    assert levels.tolist() == [0, 0, 0, 0, 1, -1, 2, -3]
    assert not levels.signbit()[:4].any()
    torch.testing.assert_close(unrounded, torch.tensor([0, 0, 0, 0.5, 0.52, -1.3, 2.02, -17.5]))
    # On the integer grid: code = 2 level + sign, value = 0.25 code, which is step level + shift sign.
    assert dequantize_levels(levels, 2, 1, 0.25, 0.0).tolist() == [0, 0, 0, 0, 0.75, -0.75, 1.25, -1.75]
    # On the paper's: the shift is a float beside the codes.
    assert dequantize_levels(levels, 1, 0, 0.5, 0.25).tolist() == [0, 0, 0, 0, 0.75, -0.75, 1.25, -1.75]
