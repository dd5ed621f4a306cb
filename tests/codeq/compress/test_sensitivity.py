"""Sensitivities are what running the network with one weight changed shows."""

import copy

import pytest
import torch
from torch import Tensor, nn

from codeq.compress.choose import Placement
from codeq.compress.columns import Layer
from codeq.compress.methods.obq import obq
from codeq.compress.problem import LayerProblem
from codeq.compress.sensitivity import BITS, Sensitivity, measure, measure_choices
from codeq.graph.trace import trace
from codeq.quantizer.attach import attach, quantized_weights


def test_noise_is_that_of_the_layers_result() -> None:
    torch.manual_seed(0)
    weight, x = torch.randn(6, 20), torch.randn(50, 20) @ torch.randn(20, 20)
    layer = nn.Sequential(nn.Linear(20, 6, bias=False))
    attach(layer, 4, granularity="channel")
    (quantized,) = quantized_weights(layer)
    problem = LayerProblem(weight, (x.T @ x).double() / len(x))
    placements = [Placement.search(quantized.quantizer, Layer(), weight[None], bits) for bits in (3, 8)]
    measured = measure_choices(placements, [problem], compensated=False)
    assert {one.choice.bits for one in measured} == {3, 8}
    wanted = x @ weight.T
    for one in measured:
        noise = (x @ one.values[0].T - wanted).square().sum() / wanted.square().sum()
        assert one.choice.noise == pytest.approx(float(noise), rel=1e-3)
        assert one.choice.sparsity == pytest.approx(float((one.values == 0).float().mean()))
    assert max(one.choice.sparsity for one in measured) > 0.9


def test_what_is_made_up_for_is_predicted() -> None:
    torch.manual_seed(0)
    weight, x = torch.randn(32, 40), torch.randn(200, 40) @ torch.randn(40, 40)
    layer = nn.Sequential(nn.Linear(40, 32, bias=False))
    attach(layer, 4, granularity="channel")
    (quantized,) = quantized_weights(layer)
    problem = LayerProblem(weight, (x.T @ x).double() / len(x))
    placement = Placement.search(quantized.quantizer, Layer(), weight[None], 4)
    measured = measure_choices([placement], [problem])
    wanted = x @ weight.T
    for one in measured[:3]:
        (grid,) = placement.grids(placement.theta_for(one.choice.zeros))
        value = grid.values(obq(problem, grid).float())
        noise = float((x @ value.T - wanted).square().sum() / wanted.square().sum())
        assert one.choice.noise == pytest.approx(noise, rel=0.6)
        assert one.choice.noise < one.rounding_noise * 0.6


class Two(nn.Module):
    """Has one output that a weight passes on tenfold, and a weight that no output reads."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(8, 8, bias=False), nn.Linear(8, 4, bias=False)
        self.unread = nn.Linear(8, 8, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.two(self.one(x))
        return result


@pytest.fixture(scope="module")
def measured() -> tuple[nn.Module, nn.Module, dict[str, Sensitivity]]:
    torch.manual_seed(1)
    original = Two().eval()
    before, model = copy.deepcopy(original), copy.deepcopy(original)
    x = torch.randn(32, 8)
    exported = trace(original, (x[:2],), ())
    attach(model, 8, granularity="channel")
    weights = {weight.name: weight for weight in quantized_weights(model)}
    aliases = {name: name for name in weights}
    found = measure(exported, original, (x,), (), weights, aliases, lambda name, columns: BITS)
    return before, original, found


def test_the_last_layer_passes_its_noise_on_as_it_is(
    measured: tuple[nn.Module, nn.Module, dict[str, Sensitivity]],
) -> None:
    *_, found = measured
    assert found["two.weight"].gain == pytest.approx(1.0, rel=0.5)  # moments of 32 inputs, outputs of 16
    assert found["one.weight"].gain > 0
    assert found["unread.weight"].gain == 0


def test_the_network_is_left_as_it_was(measured: tuple[nn.Module, nn.Module, dict[str, Sensitivity]]) -> None:
    before, original, _ = measured
    for name, tensor in before.state_dict().items():
        assert torch.equal(original.state_dict()[name], tensor)
