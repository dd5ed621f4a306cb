"""This module defines DS-CNN of MLPerf Tiny (keyword spotting).

Source: Zhang et al. 2017, "Hello Edge: Keyword Spotting on Microcontrollers", arXiv:1711.07128 (DS-CNN, small), as the
reference model of Banbury et al. 2021, "MLPerf Tiny Benchmark", arXiv:2106.07597, has it: mlcommons/tiny,
benchmark/training/keyword_spotting. Input 1 x 49 x 10: 49 frames of 10 MFCC coefficients of one second of sound.

| network | convolutions | parameters (with BatchNorm's statistics) | MACs at 49 x 10 |
|---|---|---|---|
| ds_cnn | 9 (one of 10x4, 4 depthwise of 3x3, 4 of 1x1) | 24,908 | 2,656,768 |

As in the reference, convolutions carry a bias, the first one pads as Keras does (4 zeros above and 5 below), and the
average pool has a window of half the input's size, so that it leaves out the last of 25 rows.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from models.arguments import MAX_CHANNELS, MAX_CLASSES, MAX_SIZE, check_integers
from models.same_padding import same_pad2d

CHANNELS = 64
KERNEL = (10, 4)


class Block(nn.Module):
    """Applies a depthwise 3x3 convolution and one of 1x1, each with BatchNorm and relu."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS)
        self.bn1 = nn.BatchNorm2d(CHANNELS)
        self.pointwise = nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.bn2 = nn.BatchNorm2d(CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.depthwise(x)))
        return F.relu(self.bn2(self.pointwise(x)))


class DsCnn(nn.Module):
    """Maps (N, in_channels, height, width) float32 to (N, num_classes) logits."""

    def __init__(self, in_channels: int = 1, num_classes: int = 12, height: int = 49, width: int = 10) -> None:
        super().__init__()
        check_integers(
            in_channels=(in_channels, 1, MAX_CHANNELS),
            num_classes=(num_classes, 1, MAX_CLASSES),
            height=(height, 4, MAX_SIZE),  # below, more than one window fits into the pool's input
            width=(width, 4, MAX_SIZE),
        )
        self.input_shape = (in_channels, height, width)
        self.pad = same_pad2d((height, width), KERNEL, stride=2)
        self.conv1 = nn.Conv2d(in_channels, CHANNELS, KERNEL, stride=2)
        self.bn1 = nn.BatchNorm2d(CHANNELS)
        self.dropout1 = nn.Dropout(0.2)
        self.blocks = nn.Sequential(*(Block() for _ in range(4)))
        self.dropout2 = nn.Dropout(0.4)
        self.pool = nn.AvgPool2d((height // 2, width // 2))
        self.fc = nn.Linear(CHANNELS, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout1(F.relu(self.bn1(self.conv1(self.pad(x)))))
        x = self.dropout2(self.blocks(x))
        return self.fc(self.pool(x).flatten(1))


def ds_cnn(in_channels: int = 1, num_classes: int = 12, height: int = 49, width: int = 10) -> DsCnn:
    """Build DS-CNN of MLPerf Tiny; see the module's docstring."""
    return DsCnn(in_channels, num_classes, height, width)
