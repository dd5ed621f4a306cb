"""This module defines ResNet-50 for ImageNet.

Source: He et al. 2016, "Deep Residual Learning for Image Recognition", arXiv:1512.03385, table 1. Names of layers and
parameters are torchvision's, so that its weights load with `load_state_dict`; as there, a block's stride is that of its
3x3 convolution ("ResNet V1.5"), where the paper has it in the first 1x1. Input 3 x 224 x 224.

| network | layers | parameters | MACs at 224 x 224 |
|---|---|---|---|
| resnet50 | 50 | 25,557,032 | 4,089,184,256 |
"""

from torch import Tensor, nn

from models.imagenet_resnet import ImageNetResNet, downsample


class Bottleneck(nn.Module):
    """Adds convolutions of 1x1, 3x3 and 1x1 to a shortcut; `downsample` is None where the shape stays."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        out_channels = channels * self.expansion
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


def resnet50(
    in_channels: int = 3, num_classes: int = 1000, input_size: int = 224, width: float = 1.0
) -> ImageNetResNet:
    """Build ResNet-50 for ImageNet; `width` multiplies all channels. See the module's docstring."""
    return ImageNetResNet(Bottleneck, (3, 4, 6, 3), in_channels, num_classes, input_size, width)
