"""Read the images of a folder, without classes, as inputs of a network: resized and cropped as in tests, normalised."""

from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor

from codeq.data.crop import InputSize, central_box, height_and_width
from codeq.data.image_file import read_image
from codeq.data.image_folder import MAX_PIXEL
from codeq.data.normalise import normalise
from codeq.errors import DataError
from codeq.toolkit.extras import install_hint

LUMA = (19595, 38470, 7471)
"""Red, green and blue in a grey pixel, of 65536: ITU-R 601-2, in Pillow's own integers."""


def read_images(paths: Sequence[str], input_size: InputSize, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Read images as inputs of a network.

    Args:
        paths: The files.
        input_size: Height and width of the inputs.
        mean, std: Of pixels scaled to [0, 1]: three numbers for RGB, one for grey.

    Returns:
        float32 `(N, 3 or 1, height, width)`.

    Raises:
        DataError: Pillow is not installed, or a file cannot be read as an image.
    """
    if find_spec("PIL") is None:
        raise DataError(f"images need Pillow: {install_hint('images')}")
    pixels = np.empty((len(paths), *height_and_width(input_size), len(mean)), np.uint8)
    for number, path in enumerate(paths):
        image = read_image(path, input_size, partial(central_box, input_size=input_size))
        pixels[number] = image if len(mean) == 3 else _to_grey(image)
    return normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), MAX_PIXEL, mean, std)


def _to_grey(image: np.ndarray) -> np.ndarray:
    """Turn uint8 RGB into one channel; what was grey before stays the same."""
    grey = (image.astype(np.int32) @ np.array(LUMA, np.int32) + 2**15) >> 16
    return grey.astype(np.uint8)[..., None]
