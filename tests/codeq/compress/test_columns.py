"""A layer's matrix times its columns is what the layer computes, whatever its windows and groups."""

import pytest
import torch
from torch import Tensor, nn

from codeq.compress.columns import layer_of
from codeq.graph.trace import trace

ALL = 10**9
LAYERS = [
    nn.Linear(5, 7),
    nn.Conv1d(4, 6, 3, stride=2, padding=1),
    nn.Conv1d(4, 6, 4, padding="same", dilation=2),
    nn.Conv2d(4, 6, 3, padding=1, bias=False),
    nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2),
    nn.Conv2d(4, 8, 3, padding="valid", groups=4),
    nn.Conv3d(2, 4, (1, 2, 3), padding=1, groups=2),
    nn.ConvTranspose1d(4, 6, 3, stride=2, padding=1, output_padding=1),
    nn.ConvTranspose2d(4, 6, 3, stride=(2, 3), padding=(0, 1), groups=2),
    nn.ConvTranspose2d(4, 4, 2, dilation=2, groups=4, bias=False),
    nn.ConvTranspose3d(2, 4, 2, stride=2),
]
SIZES = {nn.Linear: (3, 5), nn.Conv1d: (4, 9), nn.ConvTranspose1d: (4, 5), nn.Conv3d: (2, 4, 5, 6)}


def example(layer: nn.Module) -> Tensor:
    size = SIZES.get(type(layer), (2, 3, 3, 3) if isinstance(layer, nn.ConvTranspose3d) else (4, 7, 6))
    return torch.randn(2, *size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("module", LAYERS, ids=str)
def test_the_product_is_the_layer(module: nn.Module) -> None:
    x = example(module)
    (node,) = [node for node in trace(module, (x,)).graph.nodes if node.op == "call_function" and layer_of(node)]
    layer = layer_of(node)
    assert layer is not None
    weight = module.weight.detach()
    assert isinstance(weight, Tensor)
    matrix = layer.matrix(weight)
    assert torch.equal(layer.restore(matrix, tuple(weight.shape)), weight)
    columns = layer.columns(x, ALL, torch.Generator())
    found = matrix @ columns.transpose(1, 2)  # (groups, rows, samples)
    module.bias = None
    wanted = module(x).movedim(layer.channel_axis, 0).flatten(1)
    assert torch.allclose(found.flatten(0, 1), wanted, atol=1e-5)
    channels = torch.arange(float(len(wanted) // (layer.groups if layer.transposed else 1)))
    assert layer.per_row(channels).shape == matrix.shape[:2]


def test_few_places_are_some_of_all() -> None:
    module = nn.Conv2d(4, 6, 3, padding=1)
    x = example(module)
    (node,) = [node for node in trace(module, (x,)).graph.nodes if node.op == "call_function" and layer_of(node)]
    layer = layer_of(node)
    assert layer is not None
    every = layer.columns(x, ALL, torch.Generator())[0]
    some = layer.columns(x, 5, torch.Generator().manual_seed(1))[0]
    again = layer.columns(x, 5, torch.Generator().manual_seed(1))[0]
    assert len(some) == 2 * 5
    assert torch.equal(some, again)
    assert all(bool((every == row).all(1).any()) for row in some)


def test_what_is_no_layer() -> None:
    exported = trace(nn.Sequential(nn.ReLU(), nn.BatchNorm1d(4)).eval(), (torch.randn(2, 4),))
    assert not any(layer_of(node) for node in exported.graph.nodes if node.op == "call_function")
