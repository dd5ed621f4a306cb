"""Pictures for the tests, made without files."""

import numpy as np
from PIL import Image


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """A smooth picture, so that JPEG and resizing change it little: two waves and a ramp."""
    y, x = np.mgrid[0:height, 0:width].astype(float)
    planes = [
        128 + 100 * np.sin(x / width * 7 + seed),
        128 + 100 * np.cos(y / height * 5 + seed),
        (x / width + y / height) * 127,
    ]
    return Image.fromarray(np.stack(planes, 2).clip(0, 255).astype(np.uint8))
