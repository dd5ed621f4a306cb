"""Read part of an image file, resized to the input of a network."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from codeq.data.crop import Box, InputSize, height_and_width
from codeq.errors import DataError, first_line

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
FORMATS = ("JPEG", "PNG", "BMP", "WEBP")
"""Formats that are opened, told by content: ImageNet has a PNG called .JPEG. No file reaches another decoder."""


def read_image(path: str, input_size: InputSize, choose_box: Callable[[int, int], Box]) -> np.ndarray:
    """Read an image in RGB; transparency and the orientation in EXIF are left out of account, as in torchvision.

    Args:
        path: A file in one of `FORMATS`, 8 bits a channel.
        input_size: Height and width of the result; one number where they are equal.
        choose_box: From the width and height of the image, the part to take. It is resized bilinearly with the
            footprint of a pixel of the result, whatever the ratio.

    Returns:
        uint8 `(height, width, 3)`.

    Raises:
        DataError: The file cannot be read as an image, or has more than 8 bits a channel.
    """
    from PIL import Image, UnidentifiedImageError  # here, so that data in memory loads without Pillow

    try:
        with Image.open(path, formats=FORMATS) as image:
            box = _draft(image, input_size, choose_box(*image.size))
            height, width = height_and_width(input_size)
            pixels = _to_rgb(image).resize((width, height), Image.Resampling.BILINEAR, box)
    except _DeepImageError as error:
        raise DataError(f"{path}: has pixels of type {error}, expected 8 bits a channel") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: is not an image, expected one of {', '.join(FORMATS)}") from error
    except Exception as error:  # what Pillow's decoders raise on damaged files shares no base class
        raise DataError(f"{path}: cannot be read as an image ({first_line(error)})") from error
    return np.asarray(pixels)


class _DeepImageError(Exception):
    """Raised for pixels that Pillow would clip to 8 bits."""


def _draft(image: "Image.Image", input_size: InputSize, box: Box) -> Box:
    """Let a JPEG decode at a half, a quarter or an eighth where that still is at least the result's size.

    Returns:
        The box in the image as it will be decoded.
    """
    width, height = image.size
    rows, columns = height_and_width(input_size)
    sides = (columns, box[2] - box[0]), (rows, box[3] - box[1])
    wanted = tuple(math.ceil(max(whole * size / part for size, part in sides)) for whole in (width, height))
    reduced = image.draft("RGB", (wanted[0], wanted[1]))
    if reduced is None:
        return box
    factor = reduced[1][2] / width
    return box[0] * factor, box[1] * factor, box[2] * factor, box[3] * factor


def _to_rgb(image: "Image.Image") -> "Image.Image":
    if image.mode == "RGB":
        return image
    if image.mode.startswith(("I", "F")):
        raise _DeepImageError(image.mode)
    # Decoded before it goes: Pillow warns of the transparency that it drops, which is what we want.
    image.load()
    image.info.pop("transparency", None)
    return image.convert("RGB")
