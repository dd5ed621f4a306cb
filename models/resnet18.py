"""This module defines ResNet-18 for ImageNet.

Source: He et al. 2016, "Deep Residual Learning for Image Recognition", arXiv:1512.03385, table 1. Names of layers and
parameters are torchvision's, so that its weights load with `load_state_dict`. Input 3 x 224 x 224.

| network | layers | parameters | MACs at 224 x 224 |
|---|---|---|---|
| resnet18 | 18 | 11,689,512 | 1,814,073,344 |
"""

from torch import Tensor, nn

from models.imagenet_resnet import ImageNetResNet, downsample


class BasicBlock(nn.Module):
    """Adds two 3x3 convolutions to a shortcut; `downsample` is None where the shape stays."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = downsample(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


def resnet18(
    in_channels: int = 3, num_classes: int = 1000, input_size: int = 224, width: float = 1.0
) -> ImageNetResNet:
    """Build ResNet-18 for ImageNet; `width` multiplies all channels. See the module's docstring."""
    return ImageNetResNet(BasicBlock, (2, 2, 2, 2), in_channels, num_classes, input_size, width)
