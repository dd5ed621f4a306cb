"""Data sets as tensors in memory: scikit-learn's digits, and folders of the standard IDX files."""

import gzip
import math
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from codeq.errors import DataError

IDX_NAMES = {
    "train_images": ("train-images-idx3-ubyte", "train-images.idx3-ubyte"),
    "train_labels": ("train-labels-idx1-ubyte", "train-labels.idx1-ubyte"),
    "test_images": ("t10k-images-idx3-ubyte", "t10k-images.idx3-ubyte"),
    "test_labels": ("t10k-labels-idx1-ubyte", "t10k-labels.idx1-ubyte"),
}
DIGITS_TEST_SHARE = 0.2
DIGITS_SPLIT_SEED = 0
"""The split belongs to the data set: it is the same whatever `--seed` trains with, so that runs compare."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images normalised per channel, and their labels.

    Attributes:
        train_inputs, test_inputs: float32 `(N, channels, height, width)`, (pixel / max_pixel - mean) / std.
        train_labels, test_labels: int64 `(N,)`.
        num_classes: Largest label plus one.
        mean, std: Per channel, of training pixels scaled to [0, 1].
    """

    train_inputs: Tensor
    train_labels: Tensor
    test_inputs: Tensor
    test_labels: Tensor
    num_classes: int
    mean: list[float]
    std: list[float]

    @property
    def input_shape(self) -> tuple[int, ...]:
        return tuple(self.train_inputs.shape[1:])


def load_dataset(source: str) -> Dataset:
    """Load a data set by its command line name.

    Args:
        source: "digits" (scikit-learn's 1,797 real 8x8 images; the extra `demo` installs it), or "idx:DIR", a folder
            with the four IDX files of MNIST and its kin (train-images-idx3-ubyte and so on, plain or .gz).

    Raises:
        DataError: An unknown name, a missing or malformed file, or parts that do not fit each other.
    """
    if source == "digits":
        return _load_digits()
    kind, _, folder = source.partition(":")
    if kind == "idx" and folder:
        return _load_idx_folder(Path(folder))
    raise DataError(f"unknown data set {source!r}, expected digits or idx:DIR")


def shift_randomly(images: Tensor, pixels: int, generator: torch.Generator) -> Tensor:
    """Move each image by up to `pixels` in both directions; what moves in is the image's own border.

    Args:
        images: `(N, C, H, W)`.
        pixels: Largest shift; 0 returns the images.
        generator: Source of the shifts.
    """
    if pixels == 0:
        return images
    count, _, height, width = images.shape
    padded = F.pad(images, (pixels,) * 4, mode="replicate")
    top, left = torch.randint(0, 2 * pixels + 1, (2, count), generator=generator)
    rows = (top[:, None] + torch.arange(height))[:, None, :, None]
    columns = (left[:, None] + torch.arange(width))[:, None, None, :]
    return padded[torch.arange(count)[:, None, None, None], torch.arange(images.shape[1])[:, None, None], rows, columns]


def _load_digits() -> Dataset:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError("the digits data set needs scikit-learn: pip install 'codeq[demo]'") from error
    digits = load_digits()
    images = torch.from_numpy(digits.images).float() / 16
    labels = torch.from_numpy(digits.target).long()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(DIGITS_SPLIT_SEED))
    test = round(len(labels) * DIGITS_TEST_SHARE)
    return _normalise(images[order[test:]], labels[order[test:]], images[order[:test]], labels[order[:test]])


def _load_idx_folder(folder: Path) -> Dataset:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected the IDX files {IDX_NAMES['train_images'][0]}[.gz] ...")
    parts = {role: _read_idx(_find_idx(folder, names)) for role, names in IDX_NAMES.items()}
    for split in ("train", "test"):
        images, labels = parts[f"{split}_images"], parts[f"{split}_labels"]
        if images.ndim != 3 or labels.ndim != 1:
            raise DataError(
                f"{folder}: {split} images have {images.ndim} dimensions and labels {labels.ndim}, not 3 and 1"
            )
        if len(images) != len(labels) or len(images) == 0:
            raise DataError(f"{folder}: {len(images)} {split} images but {len(labels)} labels")
    if parts["train_images"].shape[1:] != parts["test_images"].shape[1:]:
        raise DataError(
            f"{folder}: training images are {tuple(parts['train_images'].shape[1:])}, "
            f"test images {tuple(parts['test_images'].shape[1:])}"
        )
    return _normalise(
        parts["train_images"].float() / 255,
        parts["train_labels"].long(),
        parts["test_images"].float() / 255,
        parts["test_labels"].long(),
    )


def _find_idx(folder: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        for candidate in (folder / name, folder / f"{name}.gz"):
            if candidate.is_file():
                return candidate
    raise DataError(f"{folder}: has no {names[0]} or {names[0]}.gz")


def _read_idx(path: Path) -> Tensor:
    """One IDX file of unsigned bytes: magic 0, 0, 8, ndim; big-endian uint32 sizes; the bytes (LeCun's MNIST page)."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, gzip.zlib.error) as error:  # type: ignore[attr-defined]
        raise DataError(f"{path}: cannot be read ({error})") from error
    if len(content) >= 4 and content[3] not in (1, 3):
        raise DataError(f"{path}: declares {content[3]} dimensions, expected 3 (images) or 1 (labels)")
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        found = content[:4].hex(" ") or "an empty file"
        raise DataError(f"{path}: not an IDX file of unsigned bytes, expected it to begin 00 00 08, found {found}")
    header = 4 + 4 * content[3]
    if len(content) < header:
        raise DataError(f"{path}: truncated within its header")
    sizes = struct.unpack(f">{content[3]}I", content[4:header])
    if len(content) - header != math.prod(sizes):
        raise DataError(
            f"{path}: declares {' x '.join(map(str, sizes))} bytes, found {len(content) - header}; truncated?"
        )
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=header).reshape(sizes).copy())


def _normalise(train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor) -> Dataset:
    mean, std = float(train.mean()), float(train.std())
    if std == 0:
        raise DataError("all training pixels are equal; there is nothing to learn from")
    return Dataset(
        train_inputs=((train - mean) / std).unsqueeze(1),
        train_labels=train_labels,
        test_inputs=((test - mean) / std).unsqueeze(1),
        test_labels=test_labels,
        num_classes=int(torch.maximum(train_labels.max(), test_labels.max())) + 1,
        mean=[mean],
        std=[std],
    )
