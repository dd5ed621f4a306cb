"""IDX files in, tensors out; malformed ones by name."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from codeq.data import load_dataset
from codeq.errors import DataError

pytestmark = pytest.mark.quick

IMAGES = np.arange(6 * 4 * 4, dtype=np.uint8).reshape(6, 4, 4)
LABELS = np.array([0, 1, 2, 0, 1, 2], dtype=np.uint8)


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split in ("train", "t10k"):
        (tmp_path / f"{split}-images-idx3-ubyte").write_bytes(idx(IMAGES))
        (tmp_path / f"{split}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(LABELS)))
    return tmp_path


def test_idx_folder_plain_and_compressed(folder: Path) -> None:
    data = load_dataset(f"idx:{folder}")
    assert data.input_shape == (1, 4, 4)
    assert data.num_classes == 3
    assert data.train.labels.tolist() == LABELS.tolist()
    pixels = torch.from_numpy(IMAGES).float() / 255
    assert data.mean == [pytest.approx(pixels.mean().item())]
    assert data.std == [pytest.approx(pixels.std().item())]
    inputs = data.test.load(torch.tensor([5, 0]))
    assert inputs.dtype == torch.float32
    torch.testing.assert_close(inputs[:, 0] * data.std[0] + data.mean[0], pixels[[5, 0]])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train-images-idx3-ubyte", b"", "not an IDX file of unsigned bytes.*an empty file"),
        ("train-images-idx3-ubyte", b"\x00\x00\x0d\x03", "expected it to begin 00 00 08, found 00 00 0d 03"),
        ("train-images-idx3-ubyte", b"\x00\x00\x08\x03\x00\x00", "truncated within its header"),
        ("train-images-idx3-ubyte", idx(IMAGES)[:-1], "declares 6 x 4 x 4 bytes, found 95; truncated"),
        ("train-images-idx3-ubyte", idx(IMAGES[:5]), "5 train images but 6 labels"),
        ("train-images-idx3-ubyte", idx(LABELS), "train images have 1 dimensions and labels 1, not 3 and 1"),
        ("t10k-images-idx3-ubyte", idx(IMAGES[:, :3]), r"training images are \(4, 4\), test images \(3, 4\)"),
        ("train-images-idx3-ubyte", idx(IMAGES * 0), "all training pixels are equal"),
        ("t10k-labels-idx1-ubyte.gz", b"not gzip", "cannot be read"),
    ],
    ids=["empty", "type", "header", "truncated", "count", "dimensions", "size", "constant", "gzip"],
)
def test_malformed_files_are_named(folder: Path, name: str, content: bytes, message: str) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_dataset(f"idx:{folder}")


def test_missing_parts_are_named(folder: Path, tmp_path: Path) -> None:
    (folder / "t10k-images-idx3-ubyte").unlink()
    with pytest.raises(DataError, match="has no t10k-images-idx3-ubyte"):
        load_dataset(f"idx:{folder}")
    with pytest.raises(DataError, match="no such folder"):
        load_dataset(f"idx:{tmp_path / 'nowhere'}")
