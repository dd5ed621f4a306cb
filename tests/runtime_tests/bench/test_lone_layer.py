"""A layer taken out of its network has the shapes that it has there, and fewer channels where it is asked for fewer."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from runtime_tests.bench.lone_layer import LoneLayer, lone_layers


class Layers(nn.Module):
    """Has layers of every kind."""

    def __init__(self) -> None:
        super().__init__()
        self.strided = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.depthwise = nn.Conv2d(8, 16, 5, padding="same", groups=8)
        self.grouped = nn.Conv2d(16, 12, 1, groups=4)
        self.up = nn.ConvTranspose2d(12, 6, 3, stride=2, padding=1, output_padding=1)
        self.flat = nn.Conv1d(6, 4, 3, dilation=2)
        self.tokens = nn.Linear(4, 10)
        self.last = nn.Linear(10, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(self.grouped(self.depthwise(self.strided(x))))
        x = self.flat(x.flatten(2)).transpose(1, 2)
        return self.last(self.tokens(x).mean(1))


@pytest.fixture(scope="module")
def shapes() -> dict[str, tuple[torch.Size, torch.Size]]:
    network, found = Layers().eval(), {}

    def note(name: str) -> Any:
        return lambda module, given, made: found.__setitem__(name, (given[0].shape, made.shape))

    for name, module in network.named_children():
        module.register_forward_hook(note(f"{name}.weight"))
    network(torch.randn(1, 3, 12, 12))
    return found


@pytest.fixture(scope="module")
def layers() -> dict[str, LoneLayer]:
    return {name: layer for name, (layer,) in lone_layers(Layers(), torch.randn(3, 3, 12, 12)).items()}


def test_all_are_found(layers: dict[str, LoneLayer], shapes: dict[str, Any]) -> None:
    assert set(layers) == set(shapes)


@pytest.mark.parametrize("name", ["strided", "depthwise", "grouped", "up", "flat", "tokens", "last"])
def test_shapes_are_those_in_the_network(
    layers: dict[str, LoneLayer], shapes: dict[str, tuple[torch.Size, torch.Size]], name: str
) -> None:
    layer = layers[f"{name}.weight"]
    module, x = layer.build(layer.outputs, layer.inputs)
    given, made = shapes[f"{name}.weight"]
    assert x.shape == given
    y = module(x)
    assert y.shape == made
    assert layer.values == pytest.approx(made.numel(), rel=0.25)  # borders aside
    original = getattr(Layers(), name)
    assert module.weight.shape == original.weight.shape
    assert (module.bias is None) == (original.bias is None)


def test_channels_go(layers: dict[str, LoneLayer]) -> None:
    module, x = layers["up.weight"].build(4, 5)
    assert module(x).shape[:2] == (1, 4)
    assert x.shape[1] == 5
    module, x = layers["tokens.weight"].build(7, 3)
    assert module(x).shape[-1] == 7
    depthwise = layers["depthwise.weight"]
    assert depthwise.group_size == 2
    module, x = depthwise.build(6, depthwise.inputs)
    assert x.shape[1] == module.groups == 3
    assert module(x).shape[1] == 6


def test_a_layer_is_there_for_every_call() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 3, 3, stride=2, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(self.layer(x))  # type: ignore[no-any-return]

    first, second = lone_layers(Twice(), torch.randn(2, 3, 8, 8))["layer.weight"]
    assert first.shape == (1, 3, 8, 8)
    assert second.shape == (1, 3, 4, 4)
