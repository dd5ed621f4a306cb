"""This module defines ResNet-8 of MLPerf Tiny (image classification).

Source: Banbury et al. 2021, "MLPerf Tiny Benchmark", arXiv:2106.07597, and its reference model in
mlcommons/tiny, benchmark/training/image_classification. Input 3 x 32 x 32.

| network | convolutions | parameters (with BatchNorm's statistics) | MACs at 32 x 32 |
|---|---|---|---|
| resnet8 | 9 (7 of 3x3, 2 of 1x1) | 78,666 | 12,501,632 |

As in the reference, convolutions carry a bias and the 1x1 shortcuts no BatchNorm.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from models.arguments import check_image_arguments


class Block(nn.Module):
    """Adds two 3x3 convolutions to a shortcut, which is a strided 1x1 convolution where the shape changes."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(channels)
        changes_shape = stride != 1 or in_channels != channels
        self.shortcut = nn.Conv2d(in_channels, channels, 1, stride) if changes_shape else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + self.shortcut(x))


class ResNet8(nn.Module):
    """Maps (N, in_channels, input_size, input_size) float32 to (N, num_classes) logits."""

    def __init__(self, in_channels: int = 3, num_classes: int = 10, input_size: int = 32) -> None:
        super().__init__()
        check_image_arguments(in_channels, num_classes, input_size, smallest=4)
        self.input_shape = (in_channels, input_size, input_size)
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(16)
        self.block1 = Block(16, 16, stride=1)
        self.block2 = Block(16, 32, stride=2)
        self.block3 = Block(32, 64, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.block3(self.block2(self.block1(x)))
        return self.fc(self.pool(x).flatten(1))


def resnet8(in_channels: int = 3, num_classes: int = 10, input_size: int = 32) -> ResNet8:
    """Build ResNet-8 of MLPerf Tiny; see the module's docstring."""
    return ResNet8(in_channels, num_classes, input_size)
