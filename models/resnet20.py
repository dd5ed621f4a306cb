"""This module defines ResNet-20 for CIFAR.

Source: He et al. 2016, "Deep Residual Learning for Image Recognition", arXiv:1512.03385, section 4.2:
three stages of 16, 32 and 64 channels, n = 3 blocks each, shortcuts of option A (no parameters:
every second pixel, missing channels zero). Input 3 x 32 x 32.

| network | layers | parameters | MACs at 32 x 32 |
|---|---|---|---|
| resnet20 | 20 | 269,722 | 40,551,040 |
"""

import torch.nn.functional as F
from torch import Tensor, nn

from models.arguments import check_image_arguments, check_width


class Block(nn.Module):
    """Adds two 3x3 convolutions to a shortcut that subsamples and pads channels with zeros (option A)."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        new_channels = channels - in_channels
        before = new_channels // 2
        # A module, so that its numbers follow where channels are taken out; of the three last axes it pads the first.
        self.pad = nn.ZeroPad3d((0, 0, 0, 0, before, new_channels - before)) if new_channels else nn.Identity()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.stride != 1:
            x = x[:, :, :: self.stride, :: self.stride]
        return F.relu(y + self.pad(x))


class ResNet20(nn.Module):
    """Maps (N, in_channels, input_size, input_size) float32 to (N, num_classes) logits.

    Args:
        in_channels, num_classes, input_size: As everywhere.
        width: Multiplies all channels; each stage has twice those of the one before.
    """

    def __init__(self, in_channels: int = 3, num_classes: int = 10, input_size: int = 32, width: float = 1.0) -> None:
        super().__init__()
        check_image_arguments(in_channels, num_classes, input_size, smallest=4)
        check_width(width)
        first, second, third = (count * max(1, round(16 * width)) for count in (1, 2, 4))
        self.input_shape = (in_channels, input_size, input_size)
        self.conv1 = nn.Conv2d(in_channels, first, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(first)
        self.stage1 = nn.Sequential(Block(first, first, 1), Block(first, first, 1), Block(first, first, 1))
        self.stage2 = nn.Sequential(Block(first, second, 2), Block(second, second, 1), Block(second, second, 1))
        self.stage3 = nn.Sequential(Block(second, third, 2), Block(third, third, 1), Block(third, third, 1))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(third, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.stage3(self.stage2(self.stage1(x)))
        return self.fc(self.pool(x).flatten(1))


def resnet20(in_channels: int = 3, num_classes: int = 10, input_size: int = 32, width: float = 1.0) -> ResNet20:
    """Build ResNet-20 for CIFAR; see the module's docstring."""
    return ResNet20(in_channels, num_classes, input_size, width)
