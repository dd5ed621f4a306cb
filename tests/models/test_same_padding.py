"""Padding "same" is that of Keras: windows by hand."""

import pytest
import torch
from torch import nn

import models
from models.same_padding import same_pad2d, same_padding

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    ("size", "kernel_size", "stride", "padding"),
    [
        (96, 3, 2, (0, 1)),  # even size: 48 windows, the last one begins at 94 and ends at 96, one past the end
        (97, 3, 2, (1, 1)),
        (49, 10, 2, (4, 5)),  # 25 windows take 2 * 24 + 10 = 58 values, 9 more than there are
        (10, 4, 2, (1, 1)),
        (128, 8, 1, (3, 4)),
        (8, 1, 2, (0, 0)),  # windows that leave values out need no padding
    ],
)
def test_amounts(size: int, kernel_size: int, stride: int, padding: tuple[int, int]) -> None:
    assert same_padding(size, kernel_size, stride) == padding
    windows = (size + sum(padding) - kernel_size) // stride + 1
    assert windows == -(-size // stride)


def test_height_comes_before_width() -> None:
    x = torch.ones(1, 1, 49, 10)
    assert same_pad2d((49, 10), (10, 4), 2)(x).shape == (1, 1, 58, 12)
    assert float(same_pad2d((49, 10), (10, 4), 2)(x)[0, 0, 3].sum()) == 0  # the 4th of 4 rows above
    assert float(same_pad2d((49, 10), (10, 4), 2)(x)[0, 0, 4].sum()) == 10


@torch.no_grad()
def test_a_strided_convolution_sees_keras_windows() -> None:
    model = models.create("mobilenet_v1", in_channels=1, input_size=4)
    nn.init.ones_(model.conv1.weight)
    nn.init.zeros_(model.conv1.bias)
    x = torch.arange(1.0, 17).reshape(1, 1, 4, 4)
    # Rows and columns 0 to 2 and 2 to 4, where row and column 4 are zeros; PyTorch's padding=1 would begin at -1.
    assert model.conv1(model.pad(x))[0, 0].tolist() == [[54.0, 45.0], [72.0, 54.0]]
