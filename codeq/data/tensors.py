"""This module holds splits in memory, one byte a pixel."""

from dataclasses import dataclass

from torch import Tensor

from codeq.data.augment import flip, shift
from codeq.data.dataset import Dataset
from codeq.data.normalise import channel_statistics, normalise


@dataclass(frozen=True, eq=False)
class TensorSplit:
    """Holds images of one size and normalises them when they are loaded.

    Attributes:
        pixels: uint8 `(N, C, H, W)`.
        labels: int64 `(N,)`.
        max_pixel, mean, std: As for `normalise`.
        shift: Augmentation: largest shift in pixels.
        flip: Augmentation: whether to mirror half of the images.
    """

    pixels: Tensor
    labels: Tensor
    max_pixel: int
    mean: list[float]
    std: list[float]
    shift: int
    flip: bool

    def __len__(self) -> int:
        return len(self.labels)

    def load(self, index: Tensor, draws: Tensor | None = None) -> Tensor:
        """Load inputs as `Split.load` says."""
        images = self.pixels[index]
        if draws is not None:
            images = shift(images, self.shift, draws)
            if self.flip:
                images = flip(images, draws)
        return normalise(images, self.max_pixel, self.mean, self.std)


def build_dataset(
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    *,
    num_classes: int,
    max_pixel: int,
    shift: int | None,
    flip: bool | None,
    source: str,
    classes: tuple[str, ...] = (),
) -> Dataset:
    """Make a data set of images in memory, normalised by the statistics of its training images.

    Args:
        train, test: Pixels, uint8 `(N, C, H, W)`, and labels, int64 `(N,)`.
        num_classes: Labels are 0 to `num_classes - 1`.
        max_pixel: The pixel value that stands for 1.
        shift: As for `TensorSplit`; None takes 1 per 14 pixels of height, at least 1.
        flip: As for `TensorSplit`; None is False.
        source: Where they are from, for messages.
        classes: As for `Dataset`.

    Raises:
        DataError: All training pixels of a channel are equal.
    """
    pixels, _ = train
    _, channels, height, width = pixels.shape
    mean, std = channel_statistics(pixels, max_pixel, source)
    shift = max(1, height // 14) if shift is None else shift
    return Dataset(
        train=TensorSplit(*train, max_pixel, mean, std, shift, bool(flip)),
        test=TensorSplit(*test, max_pixel, mean, std, shift, bool(flip)),
        num_classes=num_classes,
        mean=mean,
        std=std,
        input_shape=(channels, height, width),
        max_pixel=max_pixel,
        classes=classes,
    )
