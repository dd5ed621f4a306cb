"""The operators between codes and floats, by hand."""

import pytest
import torch
from torch import nn

import codeq
from codeq.quantizer.attach import encode, quantized_weights
from export.program.dequantize import dequantize, keep_float, quantize, replace_quantizer

pytestmark = pytest.mark.quick

CODES = torch.tensor([[2, -1], [0, 4]], dtype=torch.int8)


def test_codes_times_a_scale() -> None:
    assert dequantize(CODES, torch.tensor(0.5), None, 0).tolist() == [[1, -0.5], [0, 2]]
    per_channel = torch.tensor([1.0, 10.0])
    assert dequantize(CODES, per_channel, None, 0).tolist() == [[2, -1], [0, 40]]
    assert dequantize(CODES, per_channel, None, 1).tolist() == [[2, -10], [0, 40]]


def test_a_shift_has_the_sign_of_the_code_and_leaves_zero() -> None:
    assert dequantize(CODES, torch.tensor(0.5), torch.tensor(0.25), 0).tolist() == [[1.25, -0.75], [0, 2.25]]


def test_a_zero_point_is_the_code_of_zero() -> None:
    codes, zero = torch.tensor([0, 7, 255], dtype=torch.uint8), torch.tensor(7, dtype=torch.uint8)
    assert dequantize(codes, torch.tensor(0.5), None, 0, zero).tolist() == [-3.5, 0, 124]


def test_quantizing_rounds_to_even_and_clips() -> None:
    x = torch.tensor([0.25, 0.75, -9.0, 999.0])
    assert quantize(x, torch.tensor(0.5), torch.tensor(7, dtype=torch.uint8)).tolist() == [7, 9, 0, 255]


def test_keeping_float_changes_nothing() -> None:
    x = torch.tensor([0.1])
    assert torch.equal(keep_float(x), x)


@pytest.mark.parametrize("grid", ["integer", "paper"])
def test_a_layer_computes_the_same_with_its_codes(grid: str) -> None:
    layer = nn.Sequential(nn.Linear(4, 3))
    codeq.attach(layer, 4, grid=grid)
    before = layer[0].weight.detach().clone()
    (weight,) = list(quantized_weights(layer))
    replace_quantizer(weight, encode(layer)["0.weight"])
    assert torch.equal(layer[0].weight, before)
    assert layer[0].parametrizations.weight.original.dtype == torch.int8
