"""Turn pixels into inputs of mean 0 and deviation 1: input = (pixel / max_pixel - mean) / std, per channel."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from codeq.errors import CalibrationError, DataError


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


def per_channel(
    mean: Sequence[float], std: Sequence[float], channels: int, source: object, wanted: str
) -> tuple[list[float], list[float]]:
    """Check what pixels are normalised by, and give a number for each channel where there is one for all.

    Args:
        mean, std: As people gave them.
        channels: Of the images.
        source, wanted: Where they come from and how many are expected, for messages.

    Raises:
        CalibrationError: They do not fit, are not finite, or a deviation is not above 0.
    """
    if not {len(mean), len(std)} <= {1, channels}:
        raise CalibrationError(f"{source}: mean has {len(mean)} and std {len(std)} numbers, expected {wanted}")
    mean, std = (list(numbers) * (channels // len(numbers)) for numbers in (mean, std))
    if not all(map(math.isfinite, (*mean, *std))) or min(std) <= 0:
        raise CalibrationError(f"{source}: mean is {mean} and std {std}, expected finite numbers, of std above 0")
    return mean, std


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
