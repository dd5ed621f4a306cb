"""This module defines a gated recurrent network for sensor data.

Source: Zhang et al. 2017, "Hello Edge: Keyword Spotting on Microcontrollers", arXiv:1711.07128 (GRU, small): one layer
of 154 units (Cho et al. 2014, arXiv:1406.1078), the last state classified; see train_commands.txt of their
ARM-software/ML-KWS-for-MCU. Input 25 x 10: 25 frames of 10 MFCC coefficients of one second of sound.

| network | layers | parameters | MACs at 25 steps |
|---|---|---|---|
| gru | 2 | 78,552 | 1,896,048 |

Published: 3.8 million operations, two to a MAC. PyTorch's GRU has two biases where TensorFlow's has one (462 parameters
more), and applies the reset gate behind the product instead of in front of it.
"""

from torch import Tensor, nn

from models.arguments import MAX_CLASSES, check_integers

UNITS = 154


class Gru(nn.Module):
    """Maps (N, length, in_features) float32 to (N, num_classes) logits."""

    def __init__(self, in_features: int = 10, num_classes: int = 12, length: int = 25) -> None:
        super().__init__()
        check_integers(
            in_features=(in_features, 1, 65536), num_classes=(num_classes, 1, MAX_CLASSES), length=(length, 1, 65536)
        )
        self.input_shape = (length, in_features)
        self.gru = nn.GRU(in_features, UNITS, batch_first=True)
        self.fc = nn.Linear(UNITS, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.gru(x)
        return self.fc(states[:, -1])


def gru(in_features: int = 10, num_classes: int = 12, length: int = 25) -> Gru:
    """Build a gated recurrent network; see the module's docstring."""
    return Gru(in_features, num_classes, length)
