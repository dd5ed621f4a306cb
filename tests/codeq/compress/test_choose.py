"""Codes of one weight: its values are what the frozen quantizer makes of them, and zeros are as many as wanted."""

import pytest
import torch
from torch import Tensor, nn

import codeq
from codeq.compress.choose import choose_codes
from codeq.compress.columns import Layer
from codeq.compress.methods.obq import obq
from codeq.compress.methods.rounding import rounding
from codeq.compress.problem import LayerProblem
from codeq.quantizer.attach import QuantizedWeight, quantized_weights


def attached(module: nn.Module, bits: int, granularity: str = "channel") -> QuantizedWeight:
    codeq.attach(module, bits, granularity=granularity)
    (weight,) = quantized_weights(module)
    return weight


def problems_of(matrix: Tensor) -> list[LayerProblem]:
    x = torch.randn(300, matrix.shape[2], generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = x + x.roll(1, 1)
    return [LayerProblem(part, x.T @ x / len(x)) for part in matrix]


def test_ranges_suit_the_reference() -> None:
    torch.manual_seed(0)
    module = nn.Linear(96, 20)
    weight, layer = attached(module, 4), Layer()
    problems = problems_of(layer.matrix(weight.original.detach()))
    choose_codes(weight, layer, problems, rounding)
    plain = weight.quantizer.encode(weight.original).scale
    weight, layer = attached(nn.Linear(96, 20), 4), Layer()
    choose_codes(weight, layer, problems, rounding, reference=lambda problem: 2 * problem.weight)
    assert torch.allclose(weight.quantizer.encode(weight.original).scale, 2 * plain)


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
@pytest.mark.parametrize("zeros", [0.0, 0.4, 0.6])
@pytest.mark.parametrize("bits", [8, 4, 3])
def test_the_quantizer_makes_the_values_of_them(bits: int, zeros: float, granularity: str) -> None:
    torch.manual_seed(0)
    module = nn.Linear(96, 20)
    weight, layer = attached(module, bits, granularity), Layer()
    values = choose_codes(weight, layer, problems_of(layer.matrix(weight.original.detach())), obq, zeros=zeros)
    with torch.no_grad():
        weight.original.copy_(layer.restore(values, (20, 96)))
    assert torch.equal(module.weight, weight.original)
    assert torch.equal(weight.quantizer.encode(weight.original).dequantize(), weight.original)
    found = weight.quantizer.encode(weight.original).sparsity
    assert found == pytest.approx(zeros, abs=0.02) if zeros else found < 0.2


def test_groups_of_transposed_convolutions_share_a_range_for_each_channel() -> None:
    torch.manual_seed(0)
    module = nn.ConvTranspose2d(8, 6, 2, groups=2)
    weight = attached(module, 4)
    layer = Layer(kernel=(2, 2), stride=(1, 1), padding=((1, 1), (1, 1)), dilation=(1, 1), groups=2, transposed=True)
    found = [LayerProblem(part, torch.empty(0)) for part in layer.matrix(weight.original.detach())]
    value = layer.restore(choose_codes(weight, layer, found, rounding), tuple(weight.original.shape))
    with torch.no_grad():
        weight.original.copy_(value)
    assert torch.equal(module.weight, value)
    assert tuple(weight.quantizer.frozen_scale.shape) == (3,)


def test_more_zeros_than_a_dead_zone_can_make_are_as_many_as_it_can() -> None:
    torch.manual_seed(0)
    weight = attached(nn.Linear(64, 4), 4)
    matrix = Layer().matrix(weight.original.detach().sign())  # all of one magnitude: none lies in any dead zone
    values = choose_codes(weight, Layer(), problems_of(matrix), rounding, zeros=0.9)
    assert bool(values.all())


def test_a_least_scale_is_kept() -> None:
    torch.manual_seed(0)
    weight = attached(nn.Linear(64, 4), 8)
    least = torch.tensor([0.0, 1.0, 0.0, 1e-9])
    values = choose_codes(
        weight, Layer(), problems_of(Layer().matrix(weight.original.detach())), rounding, least_scale=least
    )
    scale = weight.quantizer.encode(weight.original).scale
    assert float(scale[1]) == pytest.approx(1.0)
    assert float(scale[0]) < 0.01
    assert not bool(values[0, 1].any())
