"""Read CIFAR-10 in its binary version: rows of one label byte and 3 x 32 x 32 pixels, red plane first.

Source: https://www.cs.toronto.edu/~kriz/cifar.html (Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny
Images"). The Python version holds pickles, which run code when they are opened; we do not open those.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from codeq.data.dataset import Dataset
from codeq.data.tensors import build_dataset
from codeq.errors import DataError

TRAIN_NAMES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_NAMES = ("test_batch.bin",)
FOLDER_NAME = "cifar-10-batches-bin"
PYTHON_NAMES = ("data_batch_1", "cifar-10-batches-py")
SHAPE = (3, 32, 32)
ROW_BYTES = 1 + 3 * 32 * 32
NUM_CLASSES = 10
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
"""As its batches.meta.txt has them."""
MAX_PIXEL = 255
SHIFT = 4
"""Largest shift in pixels, as in He et al. 2015; see augment.py."""


def load_cifar10(folder: Path, *, shift: int | None, flip: bool | None) -> Dataset:
    """Load the five training files and the test file.

    Args:
        folder: Holds them, or the folder cifar-10-batches-bin that they are packed in.
        shift, flip: As for `load_dataset`.

    Raises:
        DataError: A missing or malformed file, or the Python version.
    """
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder; expected the files {TRAIN_NAMES[0]} ... of CIFAR-10's binary version"
        )
    if (folder / FOLDER_NAME).is_dir():
        folder = folder / FOLDER_NAME
    if not any((folder / name).exists() for name in (*TRAIN_NAMES, *TEST_NAMES)) and any(
        (folder / name).exists() for name in PYTHON_NAMES
    ):
        raise DataError(f"{folder}: is CIFAR-10's Python version, expected the binary one (cifar-10-binary.tar.gz)")
    return build_dataset(
        _read(folder, TRAIN_NAMES),
        _read(folder, TEST_NAMES),
        num_classes=NUM_CLASSES,
        max_pixel=MAX_PIXEL,
        shift=SHIFT if shift is None else shift,
        flip=True if flip is None else flip,
        source=str(folder),
        classes=CLASSES,
    )


def _read(folder: Path, names: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """Pixels, uint8 `(N, 3, 32, 32)`, and labels, int64 `(N,)`, of several files."""
    rows = torch.from_numpy(np.concatenate([_read_rows(folder / name) for name in names]))
    return rows[:, 1:].reshape(-1, *SHAPE), rows[:, 0].long()


def _read_rows(path: Path) -> np.ndarray:
    if not path.is_file():
        raise DataError(f"{path.parent}: has no {path.name}")
    try:
        content = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    if len(content) % ROW_BYTES or len(content) == 0:
        raise DataError(f"{path}: has {len(content)} bytes, expected rows of {ROW_BYTES}; truncated?")
    rows = content.reshape(-1, ROW_BYTES)
    if rows[:, 0].max() >= NUM_CLASSES:
        row = int((rows[:, 0] >= NUM_CLASSES).argmax())
        raise DataError(f"{path}: row {row} has label {rows[row, 0]}, expected 0 to {NUM_CLASSES - 1}")
    return rows
