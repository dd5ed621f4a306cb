"""This module defines FCN, a convolutional network over time for sensor data.

Source: Wang, Yan, Oates 2017, "Time Series Classification from Scratch with Deep Neural Networks: A Strong Baseline",
arXiv:1611.06455, figure 1(b): kernels of 8, 5 and 3, 128, 256 and 128 filters. Input 9 x 128: what the data set "Human
Activity Recognition Using Smartphones" (Anguita et al. 2013, UCI) has, 2.56 s of acceleration and rotation at 50 Hz.

| network | convolutions | parameters | MACs at 128 steps |
|---|---|---|---|
| fcn_1d | 3 | 273,670 | 34,734,848 |
"""

import torch.nn.functional as F
from torch import Tensor, nn

from models.arguments import MAX_CHANNELS, MAX_CLASSES, check_integers


class Fcn1d(nn.Module):
    """Maps (N, in_channels, length) float32 to (N, num_classes) logits."""

    def __init__(self, in_channels: int = 9, num_classes: int = 6, length: int = 128) -> None:
        super().__init__()
        check_integers(
            in_channels=(in_channels, 1, MAX_CHANNELS),
            num_classes=(num_classes, 1, MAX_CLASSES),
            length=(length, 1, 65536),
        )
        self.input_shape = (in_channels, length)
        # As in Keras: 3 zeros in front and 4 behind. PyTorch's padding="same" does that too, with a warning.
        self.pad = nn.ZeroPad1d((3, 4))
        self.conv1 = nn.Conv1d(in_channels, 128, 8)
        self.bn1 = nn.BatchNorm1d(128)
        self.conv2 = nn.Conv1d(128, 256, 5, padding=2)
        self.bn2 = nn.BatchNorm1d(256)
        self.conv3 = nn.Conv1d(256, 128, 3, padding=1)
        self.bn3 = nn.BatchNorm1d(128)
        self.pool = nn.AdaptiveAvgPool1d(1)
        self.fc = nn.Linear(128, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(self.pad(x))))
        x = F.relu(self.bn2(self.conv2(x)))
        x = F.relu(self.bn3(self.conv3(x)))
        return self.fc(self.pool(x).flatten(1))


def fcn_1d(in_channels: int = 9, num_classes: int = 6, length: int = 128) -> Fcn1d:
    """Build FCN over time; see the module's docstring."""
    return Fcn1d(in_channels, num_classes, length)
