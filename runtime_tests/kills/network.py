"""This module defines a network so small that a command takes longer to write its file than to compute it."""

from torch import nn

FACTORY = "runtime_tests.kills.network:digits_network"
"""For `--model`."""


def digits_network() -> nn.Module:
    """Build a convolution and a linear layer for digits of 8 x 8 pixels."""
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
