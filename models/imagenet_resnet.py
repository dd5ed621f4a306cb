"""This module holds what the residual networks for ImageNet share: stem, stages, head; names are torchvision's.

Source: He et al. 2016, "Deep Residual Learning for Image Recognition", arXiv:1512.03385, table 1. The shortcuts that
change the shape are strided 1x1 convolutions with BatchNorm (option B).
"""

from typing import Protocol

from torch import Tensor, nn

from models.arguments import check_image_arguments, check_width


class BlockType(Protocol):
    """Makes a block, a module of (in_channels, channels, stride) with `channels * expansion` output channels."""

    expansion: int

    def __call__(self, in_channels: int, channels: int, stride: int) -> nn.Module: ...


def downsample(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    """Build the shortcut of a block where the shape changes; None where it stays."""
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))


class ImageNetResNet(nn.Module):
    """Maps (N, in_channels, input_size, input_size) float32 to (N, num_classes) logits.

    Args:
        block: Makes the blocks of all stages.
        depths: Blocks in each stage.
        in_channels, num_classes, input_size: As for every image classifier here.
        width: Multiplies all channels.
    """

    def __init__(
        self,
        block: BlockType,
        depths: tuple[int, int, int, int],
        in_channels: int,
        num_classes: int,
        input_size: int,
        width: float,
    ) -> None:
        super().__init__()
        check_image_arguments(in_channels, num_classes, input_size, smallest=1)
        check_width(width)
        self.input_shape = (in_channels, input_size, input_size)
        channels = [max(1, int(full * width)) for full in (64, 128, 256, 512)]
        self.conv1 = nn.Conv2d(in_channels, channels[0], 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(channels[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(block, depths[0], channels[0], channels[0], stride=1)
        self.layer2 = _stage(block, depths[1], channels[0] * block.expansion, channels[1], stride=2)
        self.layer3 = _stage(block, depths[2], channels[1] * block.expansion, channels[2], stride=2)
        self.layer4 = _stage(block, depths[3], channels[2] * block.expansion, channels[3], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels[3] * block.expansion, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


def _stage(block: BlockType, depth: int, in_channels: int, channels: int, stride: int) -> nn.Sequential:
    following = (block(channels * block.expansion, channels, 1) for _ in range(depth - 1))
    return nn.Sequential(block(in_channels, channels, stride), *following)
