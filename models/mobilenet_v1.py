"""This module defines MobileNetV1 of MLPerf Tiny (visual wake words), a quarter of the published width.

Source: Howard et al. 2017, "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications",
arXiv:1704.04861, table 1, as the reference model of Banbury et al. 2021, "MLPerf Tiny Benchmark", arXiv:2106.07597, has
it: mlcommons/tiny, benchmark/training/visual_wake_words. Input 3 x 96 x 96.

| network | convolutions | parameters (with BatchNorm's statistics) | MACs at 96 x 96 |
|---|---|---|---|
| mobilenet_v1 | 27 (one of 3x3, 13 depthwise of 3x3, 13 of 1x1) | 221,794 | 7,489,664 |

As in the reference, convolutions carry a bias, relu takes the place of relu6, and strided convolutions pad as Keras
does: where the size is even, one zero behind and none in front.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from models.arguments import check_image_arguments, check_width
from models.same_padding import same_pad2d

BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
)
"""Output channels at full width, and stride."""


class Block(nn.Module):
    """Applies a depthwise 3x3 convolution and one of 1x1, each with BatchNorm and relu."""

    def __init__(self, in_channels: int, channels: int, stride: int, input_size: int) -> None:
        super().__init__()
        self.pad = same_pad2d((input_size, input_size), (3, 3), stride)
        self.depthwise = nn.Conv2d(in_channels, in_channels, 3, stride, groups=in_channels)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.pointwise = nn.Conv2d(in_channels, channels, 1)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.depthwise(self.pad(x))))
        return F.relu(self.bn2(self.pointwise(x)))


class MobileNetV1(nn.Module):
    """Maps (N, in_channels, input_size, input_size) float32 to (N, num_classes) logits."""

    def __init__(self, in_channels: int = 3, num_classes: int = 2, input_size: int = 96, width: float = 0.25) -> None:
        super().__init__()
        check_image_arguments(in_channels, num_classes, input_size, smallest=1)
        check_width(width)
        self.input_shape = (in_channels, input_size, input_size)
        channels = _scaled(32, width)
        self.pad = same_pad2d((input_size, input_size), (3, 3), stride=2)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=2)
        self.bn1 = nn.BatchNorm2d(channels)
        size = _halved(input_size)
        blocks = []
        for full_channels, stride in BLOCKS:
            blocks.append(Block(channels, _scaled(full_channels, width), stride, size))
            channels = _scaled(full_channels, width)
            size = _halved(size) if stride == 2 else size
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(self.pad(x))))
        return self.fc(self.pool(self.blocks(x)).flatten(1))


def _scaled(channels: int, width: float) -> int:
    return max(1, int(channels * width))


def _halved(size: int) -> int:
    return -(-size // 2)


def mobilenet_v1(in_channels: int = 3, num_classes: int = 2, input_size: int = 96, width: float = 0.25) -> MobileNetV1:
    """Build MobileNetV1 of MLPerf Tiny; `width` multiplies all channels. See the module's docstring."""
    return MobileNetV1(in_channels, num_classes, input_size, width)
