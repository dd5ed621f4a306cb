"""Augment images by pure functions of random draws in [0, 1).

Each image has one row of draws: AREA and RATIO of its crop, TOP and LEFT of its crop or shift, and FLIP. A column has
its meaning whatever the others are used for, so that turning one augmentation off leaves the others as they were.

Shifting by up to 4 pixels and flipping is the augmentation of He et al. 2015, arXiv:1512.03385, section 4.2, which
pads with zeros; we repeat the border, so that no training image has an edge that test images lack.
"""

import torch
from torch import Tensor

from codeq.data.dataset import AUGMENTATION_DRAWS

AREA, RATIO, TOP, LEFT, FLIP = range(AUGMENTATION_DRAWS)


def shift(images: Tensor, pixels: int, draws: Tensor) -> Tensor:
    """Move each image by up to `pixels` in both directions; what moves in is the image's own border.

    Args:
        images: `(N, C, H, W)`, any dtype.
        pixels: Largest shift. Each of the `2 * pixels + 1` shifts is as likely; 0 returns the images.
        draws: `(N, AUGMENTATION_DRAWS)`. TOP 0 moves furthest down, LEFT 0 furthest right, 0.5 is in place.
    """
    if pixels == 0:
        return images
    count, _, height, width = images.shape
    # In float64, in which no product rounds up to 2 * pixels + 1.
    top, left = (draws[:, [TOP, LEFT]].double() * (2 * pixels + 1)).long().sub(pixels).T
    rows = (top[:, None] + torch.arange(height)).clamp(0, height - 1)
    columns = (left[:, None] + torch.arange(width)).clamp(0, width - 1)
    image, channel = torch.arange(count)[:, None, None, None], torch.arange(images.shape[1])[:, None, None]
    return images[image, channel, rows[:, None, :, None], columns[:, None, None, :]]


def flip(images: Tensor, draws: Tensor) -> Tensor:
    """Mirror left and right in half of the images: where FLIP is below 0.5.

    Args:
        images: `(N, C, H, W)`, any dtype.
        draws: `(N, AUGMENTATION_DRAWS)`.
    """
    return torch.where((draws[:, FLIP] < 0.5)[:, None, None, None], images.flip(3), images)
