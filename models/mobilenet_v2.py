"""This module defines MobileNetV2 for ImageNet.

Source: Sandler et al. 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", arXiv:1801.04381, table 2. Names
of layers and parameters are torchvision's, so that its weights load with `load_state_dict`. Input 3 x 224 x 224.

| network | convolutions | parameters | MACs at 224 x 224 |
|---|---|---|---|
| mobilenet_v2 | 52 (17 depthwise) | 3,504,872 | 300,774,272 |
"""

from torch import Tensor, nn

from models.arguments import check_image_arguments, check_width

STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, output channels at full width, blocks, stride of the first block."""
FIRST_CHANNELS = 32
LAST_CHANNELS = 1280


class ConvBnRelu6(nn.Sequential):
    """Applies a convolution that keeps the size up to its stride, BatchNorm and relu6."""

    def __init__(self, in_channels: int, channels: int, kernel_size: int = 3, stride: int = 1, groups: int = 1) -> None:
        padding = (kernel_size - 1) // 2
        convolution = nn.Conv2d(in_channels, channels, kernel_size, stride, padding, groups=groups, bias=False)
        super().__init__(convolution, nn.BatchNorm2d(channels), nn.ReLU6(inplace=True))


class InvertedResidual(nn.Module):
    """Expands by 1x1, filters each channel by 3x3, projects by 1x1; a shortcut where the shape stays."""

    def __init__(self, in_channels: int, channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        expand = [ConvBnRelu6(in_channels, hidden, kernel_size=1)] if expansion != 1 else []
        self.conv = nn.Sequential(
            *expand,
            ConvBnRelu6(hidden, hidden, stride=stride, groups=hidden),
            nn.Conv2d(hidden, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.keeps_shape = stride == 1 and in_channels == channels

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.keeps_shape else self.conv(x)


class MobileNetV2(nn.Module):
    """Maps (N, in_channels, input_size, input_size) float32 to (N, num_classes) logits."""

    def __init__(
        self, in_channels: int = 3, num_classes: int = 1000, input_size: int = 224, width: float = 1.0
    ) -> None:
        super().__init__()
        check_image_arguments(in_channels, num_classes, input_size, smallest=1)
        check_width(width)
        self.input_shape = (in_channels, input_size, input_size)
        channels = _divisible(FIRST_CHANNELS * width)
        layers: list[nn.Module] = [ConvBnRelu6(in_channels, channels, stride=2)]
        for expansion, full_channels, blocks, first_stride in STAGES:
            for block in range(blocks):
                stride = first_stride if block == 0 else 1
                layers.append(InvertedResidual(channels, _divisible(full_channels * width), stride, expansion))
                channels = _divisible(full_channels * width)
        last_channels = _divisible(LAST_CHANNELS * max(1.0, width))
        layers.append(ConvBnRelu6(channels, last_channels, kernel_size=1))
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(last_channels, num_classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, 0.01)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.pool(self.features(x)).flatten(1))


def _divisible(channels: float) -> int:
    """The multiple of 8 next to a number of channels, at most a tenth below it."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


def mobilenet_v2(
    in_channels: int = 3, num_classes: int = 1000, input_size: int = 224, width: float = 1.0
) -> MobileNetV2:
    """Build MobileNetV2 for ImageNet; `width` multiplies the channels. See the module's docstring."""
    return MobileNetV2(in_channels, num_classes, input_size, width)
