"""A network of few layers that has one of every kind, for tests that look at every byte of its files."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import codeq

X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
CALIBRATION = torch.randn(12, 3, 8, 8, generator=torch.Generator().manual_seed(2))
PREPROCESSING = {"mean": [0.5, 0.25, 0.125], "std": [1.0, 2.0, 0.5]}


class Small(nn.Module):
    """A convolution with its norm, a depthwise one, an addition, a pool and a linear layer."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.last = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x)))
        x = torch.relu(x + self.depthwise(x))
        return self.last(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))  # type: ignore[no-any-return]


def made(network: nn.Module, zeros: float = 0.0, **about: Any) -> nn.Module:
    """Give a network random weights, a share of them zeros, and 4-bit codes."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.5)
        if parameter.ndim > 1:
            parameter.data[torch.rand_like(parameter) < zeros] = 0
    codeq.attach(network, 4, **about)
    codeq.freeze(network)
    return network.eval()


def save_small(path: Path, width: int = 8, zeros: float = 0.0, **about: Any) -> Path:
    """Write a checkpoint of the network; `Small` of that width loads it."""
    model = made(Small(width), zeros, grid_limit=7)
    inputs = {"held_inputs": X, "calibration_inputs": CALIBRATION, "preprocessing": PREPROCESSING}
    codeq.save(path, model, input_shape=(3, 8, 8), **(inputs | about))
    return path
