"""This module says what a data set is: a training and a test split, each loaded by position.

Augmentation takes its random numbers as an argument, so that whoever trains owns all randomness: the same draws give
the same pixels in whichever thread, and a resumed run goes on with the draws it would have had.
"""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

AUGMENTATION_DRAWS = 5
"""Numbers in [0, 1) that decide how one image is augmented; augment.py says which decides what."""


class Split(Protocol):
    """Gives labelled images by position.

    A split that is worth loading one batch ahead also has `prefetch = True`, see loader.py.
    """

    @property
    def labels(self) -> Tensor:
        """Return the class of every image, int64 `(N,)`."""
        ...

    def __len__(self) -> int: ...

    def load(self, index: Tensor, draws: Tensor | None = None) -> Tensor:
        """Load inputs of a network, float32 `(n, channels, height, width)`, normalised per channel.

        Args:
            index: Positions, int64 `(n,)`.
            draws: Uniform in [0, 1), float `(n, AUGMENTATION_DRAWS)`: the images augmented as in training.
                None: the view that accuracy is measured on.

        Raises:
            DataError: A file that cannot be read.
        """
        ...


@dataclass(frozen=True, eq=False)
class Dataset:
    """Holds two splits and what they share.

    Attributes:
        train, test: The splits. Their first positions are a sample of all classes.
        num_classes: Labels are 0 to `num_classes - 1`.
        mean, std: Per channel, of pixels scaled to [0, 1]: an input is (pixel / max_pixel - mean) / std.
        input_shape: Channels, height, width.
        max_pixel: The pixel value that stands for 1.
        crop: The part of the shorter side that an image keeps, of which the centre becomes an input; None where images
            have the size of inputs.
        classes: Their names, by label; empty where none are known.
    """

    train: Split
    test: Split
    num_classes: int
    mean: list[float]
    std: list[float]
    input_shape: tuple[int, int, int]
    max_pixel: int = 255
    crop: float | None = None
    classes: tuple[str, ...] = ()

    @property
    def preprocessing(self) -> dict[str, list[float]]:
        """Say how an input is made of an image, as checkpoints and files record it."""
        made = {"mean": self.mean, "std": self.std, "max_pixel": [float(self.max_pixel)]}
        return made if self.crop is None else made | {"crop": [self.crop]}
