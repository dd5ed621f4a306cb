"""Pad as Keras' "same" does: the output has ceil(size / stride) values, and an odd total pads one more zero at the end.

A strided convolution of PyTorch pads both ends alike, which shifts its windows by a pixel against a network from Keras.
Source: TensorFlow's documentation of tf.nn, "Notes on padding", https://www.tensorflow.org/api_docs/python/tf/nn.
"""

from torch import nn


def same_padding(size: int, kernel_size: int, stride: int) -> tuple[int, int]:
    """Count the zeros before and after one axis.

    Examples:
        >>> same_padding(96, 3, 2), same_padding(49, 10, 2), same_padding(10, 4, 2)
        ((0, 1), (4, 5), (1, 1))
    """
    total = max((-(-size // stride) - 1) * stride + kernel_size - size, 0)
    return total // 2, total - total // 2


def same_pad2d(input_size: tuple[int, int], kernel_size: tuple[int, int], stride: int) -> nn.ZeroPad2d:
    """Build the padding layer in front of an unpadded convolution; sizes are (height, width)."""
    top, bottom = same_padding(input_size[0], kernel_size[0], stride)
    left, right = same_padding(input_size[1], kernel_size[1], stride)
    return nn.ZeroPad2d((left, right, top, bottom))
