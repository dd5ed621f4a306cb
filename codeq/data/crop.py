"""Choose which part of an image becomes the network's input: a random one in training, the central one in tests.

Training is the random resized crop of Szegedy et al. 2014, arXiv:1409.4842, section 6, as torchvision's
RandomResizedCrop defines it: an area of 8 to 100 % of the image, a ratio of width to height of 3/4 to 4/3, uniform in
its logarithm; up to ten tries until one fits, else the largest central crop of an allowed ratio. Tests take the central
224 x 224 pixels of the image whose shorter side was resized to 256, or as much of it at another input size.
"""

import math
import random
import struct
from collections.abc import Iterator, Sequence

from codeq.data.augment import AREA, LEFT, RATIO, TOP

AREA_RANGE = (0.08, 1.0)
RATIO_RANGE = (3 / 4, 4 / 3)
TRIES = 10
TEST_CROP = 224 / 256
"""The part of an image's shorter side that tests keep."""

Box = tuple[float, float, float, float]
"""Left, upper, right and lower edge in pixels, as Pillow has them."""
InputSize = int | tuple[int, int]
"""Height and width of a network's inputs; one number where they are equal."""


def random_box(width: int, height: int, draws: Sequence[float]) -> Box:
    """Choose a part of an image to train on; its edges are whole pixels.

    Args:
        width, height: The image's.
        draws: `AUGMENTATION_DRAWS` numbers in [0, 1).
    """
    narrowest, widest = RATIO_RANGE
    for area_draw, ratio_draw in _tries(draws):
        area = width * height * _between(*AREA_RANGE, area_draw)
        ratio = math.exp(_between(math.log(narrowest), math.log(widest), ratio_draw))
        box_width, box_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < box_width <= width and 0 < box_height <= height:
            left = int(draws[LEFT] * (width - box_width + 1))
            top = int(draws[TOP] * (height - box_height + 1))
            return left, top, left + box_width, top + box_height
    box_width = min(width, max(1, round(height * widest)))
    box_height = min(height, max(1, round(width / narrowest)))
    left, top = (width - box_width) // 2, (height - box_height) // 2
    return left, top, left + box_width, top + box_height


def central_box(width: int, height: int, input_size: InputSize) -> Box:
    """Choose the part of an image to test on: resizing it to `input_size` is resizing the image, then cropping.

    Inputs that are not square are cropped from the smallest resized image that covers 256/224 of them both ways.
    """
    rows, columns = height_and_width(input_size)
    covered_rows, covered_columns = round(rows * 256 / 224), round(columns * 256 / 224)
    wider = width * covered_rows - height * covered_columns  # than the input: above 0, else higher or alike
    resized_width = int(covered_rows * width / height) if wider > 0 else covered_columns
    resized_height = int(covered_columns * height / width) if wider < 0 else covered_rows
    left, top = round((resized_width - columns) / 2), round((resized_height - rows) / 2)
    across, down = width / resized_width, height / resized_height
    return left * across, top * down, (left + columns) * across, (top + rows) * down


def height_and_width(input_size: InputSize) -> tuple[int, int]:
    """Give both sizes of an input, of which one number stands for a square."""
    return (input_size, input_size) if isinstance(input_size, int) else input_size


def _tries(draws: Sequence[float]) -> Iterator[tuple[float, float]]:
    """The draws themselves; after them what a generator makes of them, which depends on nothing else."""
    yield draws[AREA], draws[RATIO]
    generator = random.Random(struct.pack(f"{len(draws)}d", *draws))
    for _ in range(TRIES - 1):
        yield generator.random(), generator.random()


def _between(low: float, high: float, draw: float) -> float:
    return low + (high - low) * draw
