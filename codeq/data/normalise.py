"""Turn pixels into inputs of mean 0 and deviation 1: input = (pixel / max_pixel - mean) / std, per channel."""

from collections.abc import Sequence

import torch
from torch import Tensor

from codeq.errors import DataError


def normalise(pixels: Tensor, max_pixel: int, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Turn pixels into inputs of a network.

    Args:
        pixels: uint8 `(N, C, H, W)`.
        max_pixel: The pixel value that stands for 1.
        mean, std: `C` numbers each, of pixels scaled to [0, 1].

    Returns:
        float32 `(N, C, H, W)`.
    """
    shape = (-1, 1, 1)
    return pixels.float().div_(max_pixel).sub_(torch.tensor(mean).reshape(shape)).div_(torch.tensor(std).reshape(shape))


def channel_statistics(pixels: Tensor, max_pixel: int, source: str) -> tuple[list[float], list[float]]:
    """Compute mean and standard deviation of each channel, of pixels scaled to [0, 1].

    Pixels are counted, not summed in float32: the same on any machine and with any number of threads.

    Args:
        pixels: uint8 `(N, C, H, W)`.
        max_pixel: The pixel value that stands for 1.
        source: Where they are from, for the message.

    Raises:
        DataError: All pixels of a channel are equal.
    """
    values = torch.arange(256, dtype=torch.float64) / max_pixel
    means, stds = [], []
    for channel in range(pixels.shape[1]):
        counts = torch.bincount(pixels[:, channel].flatten(), minlength=256).double()
        mean = (counts * values).sum() / counts.sum()
        variance = (counts * (values - mean) ** 2).sum() / (counts.sum() - 1).clamp(min=1)
        if counts.count_nonzero() < 2:
            where = f" of channel {channel}" if pixels.shape[1] > 1 else ""
            raise DataError(f"{source}: all training pixels{where} are equal; there is nothing to learn from")
        means.append(float(mean))
        stds.append(float(variance.sqrt()))
    return means, stds
