"""Read IDX files, the format of MNIST and its kin: http://yann.lecun.com/exdb/mnist."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from codeq.data.dataset import Dataset
from codeq.data.tensors import build_dataset
from codeq.errors import DataError

NAMES = {
    "train_images": ("train-images-idx3-ubyte", "train-images.idx3-ubyte"),
    "train_labels": ("train-labels-idx1-ubyte", "train-labels.idx1-ubyte"),
    "test_images": ("t10k-images-idx3-ubyte", "t10k-images.idx3-ubyte"),
    "test_labels": ("t10k-labels-idx1-ubyte", "t10k-labels.idx1-ubyte"),
}
MAX_PIXEL = 255


def load_idx(folder: Path, *, shift: int | None, flip: bool | None) -> Dataset:
    """Load a folder with the four files, plain or .gz.

    Args:
        folder: Holds train-images-idx3-ubyte and so on, or with dots for hyphens as some mirrors have them.
        shift, flip: As for `load_dataset`.

    Raises:
        DataError: A missing or malformed file, or parts that do not fit each other.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected the IDX files {NAMES['train_images'][0]}[.gz] ...")
    parts = {role: _read(_find(folder, names)) for role, names in NAMES.items()}
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
    train_labels, test_labels = parts["train_labels"].long(), parts["test_labels"].long()
    return build_dataset(
        (parts["train_images"].unsqueeze(1), train_labels),
        (parts["test_images"].unsqueeze(1), test_labels),
        num_classes=int(torch.maximum(train_labels.max(), test_labels.max())) + 1,
        max_pixel=MAX_PIXEL,
        shift=shift,
        flip=flip,
        source=str(folder),
    )


def _find(folder: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        for candidate in (folder / name, folder / f"{name}.gz"):
            if candidate.is_file():
                return candidate
    raise DataError(f"{folder}: has no {names[0]} or {names[0]}.gz")


def _read(path: Path) -> Tensor:
    """One IDX file of unsigned bytes: magic 0, 0, 8, ndim; big-endian uint32 sizes; the bytes (LeCun's MNIST page)."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
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
