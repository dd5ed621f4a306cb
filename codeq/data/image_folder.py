"""Read folders of images, one per class: DIR/train/CLASS/IMAGE and DIR/val/CLASS/IMAGE, the layout of ImageNet.

Images are decoded when they are loaded. Pillow decodes outside Python's lock, so that threads share the work.
"""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from codeq.data.augment import flip
from codeq.data.crop import TEST_CROP, central_box, random_box
from codeq.data.dataset import Dataset
from codeq.data.image_file import SUFFIXES, read_image
from codeq.data.normalise import normalise
from codeq.errors import DataError
from codeq.toolkit.extras import install_hint

TRAIN_NAME = "train"
TEST_NAMES = ("val", "test")
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
"""Mean and standard deviation of ImageNet's pixels, which networks for photographs are trained with."""
MAX_PIXEL = 255
ORDER_SEED = 0
SHOWN = 3
"""How many names a message shows."""


class ImageSplit:
    """Loads images of any size from files, cropped and resized.

    Args:
        paths: The files.
        labels: int64 `(N,)`.
        input_size: Height and width of the inputs.
        flip: Augmentation: whether to mirror half of the images.
        workers: Threads that decode; 0 decodes in the thread that loads.
    """

    prefetch = True

    def __init__(self, paths: list[str], labels: Tensor, *, input_size: int, flip: bool, workers: int) -> None:
        self.paths = paths
        self.labels = labels
        self.input_size = input_size
        self.flip = flip
        self._map: Callable[..., Iterable[None]] = map
        if workers:
            self._map = ThreadPoolExecutor(workers, "decoder").map

    def __len__(self) -> int:
        return len(self.paths)

    def load(self, index: Tensor, draws: Tensor | None = None) -> Tensor:
        """Load inputs as `Split.load` says."""
        images = np.empty((len(index), self.input_size, self.input_size, 3), np.uint8)
        positions, rows = index.tolist(), None if draws is None else draws.tolist()

        def decode(number: int) -> None:
            choose_box = partial(central_box, input_size=self.input_size)
            if rows is not None:
                choose_box = partial(random_box, draws=rows[number])
            images[number] = read_image(self.paths[positions[number]], self.input_size, choose_box)

        for _ in self._map(decode, range(len(index))):
            pass
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
        if draws is not None and self.flip:
            pixels = flip(pixels, draws)
        return normalise(pixels, MAX_PIXEL, MEAN, STD)


def load_image_folder(folder: Path, *, flip: bool | None, input_size: int, workers: int) -> Dataset:
    """Take training images from train/, test images from val/ or else test/; classes are numbered by name.

    Args:
        folder: Holds the two, with the same classes.
        flip, input_size, workers: As for `load_dataset`.

    Raises:
        DataError: Another layout, a class without images, classes that differ, or Pillow is not installed.
    """
    if find_spec("PIL") is None:
        raise DataError(f"folders of images need Pillow: {install_hint('images')}")
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected one with {TRAIN_NAME}/ and {' or '.join(TEST_NAMES)}/")
    train, test = _find(folder, (TRAIN_NAME,)), _find(folder, TEST_NAMES)
    classes, test_classes = _class_names(train), _class_names(test)
    if classes != test_classes:
        raise DataError(
            f"{folder}: {train.name} and {test.name} must have the same classes; only in {train.name}: "
            f"{_some(set(classes) - set(test_classes))}; only in {test.name}: {_some(set(test_classes) - set(classes))}"
        )
    flip = True if flip is None else flip
    return Dataset(
        train=ImageSplit(*_list_images(train, classes), input_size=input_size, flip=flip, workers=workers),
        test=ImageSplit(*_list_images(test, classes), input_size=input_size, flip=flip, workers=workers),
        num_classes=len(classes),
        mean=MEAN,
        std=STD,
        input_shape=(3, input_size, input_size),
        max_pixel=MAX_PIXEL,
        crop=TEST_CROP,
        classes=tuple(classes),
    )


def _find(folder: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        if (folder / name).is_dir():
            return folder / name
    found = _some(entry.name for entry in folder.iterdir())
    raise DataError(f"{folder}: has no folder {' or '.join(names)}, expected {names[0]}/CLASS/IMAGE; found {found}")


def _class_names(folder: Path) -> list[str]:
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        found = _some(entry.name for entry in folder.iterdir())
        raise DataError(f"{folder}: has no folder per class, expected {folder.name}/CLASS/IMAGE; found {found}")
    return names


def _list_images(folder: Path, classes: list[str]) -> tuple[list[str], Tensor]:
    """Paths and labels, shuffled once and for all: the first hundred of them are a sample, not one class."""
    paths: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = sorted(
            os.path.join(parent, file)
            for parent, _, files in os.walk(folder / name)
            for file in files
            if file.lower().endswith(SUFFIXES) and not file.startswith(".")
        )
        if not found:
            raise DataError(f"{folder / name}: holds no image, expected files {', '.join(SUFFIXES)}")
        paths += found
        labels += [label] * len(found)
    order = torch.randperm(len(paths), generator=torch.Generator().manual_seed(ORDER_SEED))
    return [paths[position] for position in order.tolist()], torch.tensor(labels)[order]


def _some(names: Iterable[str]) -> str:
    """The first few of some names, in order."""
    ordered = sorted(names)
    rest = f" and {len(ordered) - SHOWN} more" if len(ordered) > SHOWN else ""
    return ", ".join(ordered[:SHOWN]) + rest or "none"
