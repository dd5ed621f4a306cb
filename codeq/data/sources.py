"""Load data sets by their command line name."""

from pathlib import Path

from codeq.data.cifar10 import load_cifar10
from codeq.data.dataset import Dataset
from codeq.data.digits import load_digits
from codeq.data.idx import load_idx
from codeq.data.image_folder import load_image_folder
from codeq.data.names import SOURCES
from codeq.errors import DataError


def load_dataset(
    source: str, *, shift: int | None = None, flip: bool | None = None, input_size: int = 224, workers: int = 0
) -> Dataset:
    """Load a data set, or what is needed to load it a batch at a time.

    Args:
        source: One of
            "digits", scikit-learn's 1,797 real 8x8 images (the extra `demo` installs it);
            "idx:DIR", a folder with the four IDX files of MNIST and its kin, plain or .gz;
            "cifar10:DIR", a folder with the six files of CIFAR-10's binary version;
            "images:DIR", a folder with train/CLASS/IMAGE and val/CLASS/IMAGE or test/CLASS/IMAGE (extra `images`).
        shift: Augmentation: largest shift in pixels. None takes 4 for CIFAR-10 and else 1 per 14 pixels of image
            size, at least 1. Image folders are cropped at random instead and take none.
        flip: Augmentation: mirror half of the images. None does it for CIFAR-10 and image folders.
        input_size: Height and width of an image folder's inputs; the other data sets have their own.
        workers: Threads that decode an image folder's files; 0 decodes in the thread that loads. The values are the
            same with any number.

    Raises:
        DataError: An unknown name, a missing or malformed file, parts that do not fit each other, or a shift for an
            image folder.
        ValueError: A number out of range.
    """
    for name, value, low in (("shift", shift, 0), ("input_size", input_size, 1), ("workers", workers, 0)):
        if value is not None and value < low:
            raise ValueError(f"{name} must be at least {low}, found {value}")
    if source == "digits":
        return load_digits(shift=shift, flip=flip)
    kind, _, name = source.partition(":")
    folder = Path(name)
    if kind == "idx" and name:
        return load_idx(folder, shift=shift, flip=flip)
    if kind == "cifar10" and name:
        return load_cifar10(folder, shift=shift, flip=flip)
    if kind == "images" and name:
        if shift is not None:
            raise DataError(f"{source}: image folders are cropped at random, not shifted; leave the shift out")
        return load_image_folder(folder, flip=flip, input_size=input_size, workers=workers)
    raise DataError(f"unknown data set {source!r}, expected {SOURCES}")
