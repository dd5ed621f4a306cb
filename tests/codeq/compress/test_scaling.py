"""Scaling a layer's weight scales its results and takes the scale of its inputs back, whatever the layer."""

import pytest
import torch
from torch import Tensor, nn

from codeq.compress.columns import layer_of
from codeq.compress.scaling import input_ranges, input_sums, output_ranges, scale_inputs, scale_outputs
from codeq.graph.trace import trace

LAYERS = {
    "linear": (nn.Linear(6, 4, bias=False), (2, 6)),
    "sequence": (nn.Linear(6, 4, bias=False), (2, 3, 6)),
    "conv1d": (nn.Conv1d(6, 4, 3, bias=False), (2, 6, 8)),
    "grouped": (nn.Conv2d(6, 4, 3, groups=2, bias=False), (2, 6, 5, 5)),
    "depthwise": (nn.Conv2d(6, 12, 3, groups=6, bias=False), (2, 6, 5, 5)),
    "transposed": (nn.ConvTranspose2d(6, 4, 2, stride=2, bias=False), (2, 6, 3, 3)),
    "transposed, grouped": (nn.ConvTranspose1d(6, 4, 2, groups=2, bias=False), (2, 6, 3)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_results_and_inputs_are_scaled(name: str) -> None:
    torch.manual_seed(0)
    module, shape = LAYERS[name]
    x = torch.randn(shape)
    exported = trace(module, (x,))
    layer = next(found for node in exported.graph.nodes if (found := layer_of(node)) is not None)
    weight = module.weight.detach()

    def run(value: Tensor, x: Tensor) -> Tensor:
        result: Tensor = torch.func.functional_call(module, {"weight": value}, (x,))
        return result.movedim(layer.channel_axis, -1)

    plain = run(weight, x)
    made, read = torch.rand(plain.shape[-1]) + 0.5, torch.rand(6) + 0.5
    scaled = x.movedim(layer.channel_axis, -1) / read
    found = run(scale_inputs(weight, layer, read), scaled.movedim(-1, layer.channel_axis))
    assert torch.allclose(found, plain, atol=1e-5)
    assert torch.allclose(run(scale_outputs(weight, layer, made), x), plain * made, atol=1e-5)
    for channel in range(6):  # what reads one channel alone
        alone = torch.zeros(6)
        alone[channel] = 1
        assert input_ranges(weight, layer)[channel] == scale_inputs(weight, layer, alone).abs().max()
    for channel in range(plain.shape[-1]):
        alone = torch.zeros(plain.shape[-1])
        alone[channel] = 1
        assert output_ranges(weight, layer)[channel] == scale_outputs(weight, layer, alone).abs().max()


@pytest.mark.parametrize("name", ["linear", "grouped", "depthwise"])
def test_constants_come_out_as_sums(name: str) -> None:
    module, shape = LAYERS[name]
    values = torch.randn(6)
    layer = next(
        found for node in trace(module, (torch.randn(shape),)).graph.nodes if (found := layer_of(node)) is not None
    )
    x = torch.ones(shape).movedim(layer.channel_axis, -1) * values
    with torch.no_grad():
        wanted = module(x.movedim(-1, layer.channel_axis)).movedim(layer.channel_axis, -1)
    sums = input_sums(module.weight.detach(), layer, values)
    assert torch.allclose(wanted, sums.expand(wanted.shape), atol=1e-5)
