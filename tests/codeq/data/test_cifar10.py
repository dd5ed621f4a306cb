"""CIFAR-10's binary files in, tensors out; malformed ones by name."""

from pathlib import Path

import numpy as np
import pytest
import torch

from codeq.data import load_dataset
from codeq.data.tensors import TensorSplit
from codeq.errors import DataError

pytestmark = pytest.mark.quick

NAMES = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]


def rows(number: int) -> np.ndarray:
    """Two rows: labels `number` and 9; each pixel tells its file, row, channel and place apart."""
    pixels = np.random.default_rng(number).integers(0, 256, (2, 3072), dtype=np.uint8)
    return np.concatenate([np.array([[number], [9]], np.uint8), pixels], 1)


def write(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(NAMES):
        rows(number).tofile(folder / name)
    return folder


@pytest.mark.parametrize("inner", ["", "cifar-10-batches-bin"], ids=["itself", "within"])
def test_the_binary_version(inner: str, tmp_path: Path) -> None:
    write(tmp_path / inner)
    data = load_dataset(f"cifar10:{tmp_path}")
    assert data.input_shape == (3, 32, 32)
    assert data.num_classes == 10
    assert data.train.labels.tolist() == [0, 9, 1, 9, 2, 9, 3, 9, 4, 9]
    assert data.test.labels.tolist() == [5, 9]
    mean, std = torch.tensor(data.mean)[:, None, None], torch.tensor(data.std)[:, None, None]
    pixels = (data.train.load(torch.tensor([6])) * std + mean)[0] * 255
    expected = rows(3)[0, 1:].reshape(3, 32, 32)  # red, green and blue planes, each row by row
    torch.testing.assert_close(pixels, torch.from_numpy(expected).float(), atol=1e-3, rtol=0)
    test = data.test.load(torch.tensor([1])) * std + mean
    torch.testing.assert_close(test[0] * 255, torch.from_numpy(rows(5)[1, 1:].reshape(3, 32, 32)).float())
    assert data.mean[2] == pytest.approx(
        np.mean([rows(number)[:, 1 + 2048 :] for number in range(5)]) / 255
    )  # of the training files' blue


def test_the_augmentation_is_he_et_als_unless_told(tmp_path: Path) -> None:
    write(tmp_path)
    data = load_dataset(f"cifar10:{tmp_path}")
    told = load_dataset(f"cifar10:{tmp_path}", shift=1, flip=False)
    assert isinstance(data.train, TensorSplit)
    assert isinstance(told.train, TensorSplit)
    assert (data.train.shift, data.train.flip) == (4, True)
    assert (told.train.shift, told.train.flip) == (1, False)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("data_batch_2.bin", rows(1).tobytes()[:-1], "data_batch_2.bin: has 6145 bytes, expected rows of 3073; trunc"),
        ("test_batch.bin", b"", "test_batch.bin: has 0 bytes, expected rows of 3073; truncated"),
        ("data_batch_5.bin", rows(10).tobytes(), "data_batch_5.bin: row 0 has label 10, expected 0 to 9"),
        ("data_batch_3.bin", rows(1)[:1].tobytes() + rows(200).tobytes(), "data_batch_3.bin: row 1 has label 200"),
    ],
    ids=["truncated", "empty", "label", "later_label"],
)
def test_malformed_files_are_named(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (write(tmp_path) / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        load_dataset(f"cifar10:{tmp_path}")
    assert "\n" not in str(error.value)


def test_constant_pixels_are_refused(tmp_path: Path) -> None:
    write(tmp_path)
    for name in NAMES:
        np.zeros((2, 3073), np.uint8).tofile(tmp_path / name)
    with pytest.raises(DataError, match="all training pixels of channel 0 are equal"):
        load_dataset(f"cifar10:{tmp_path}")


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    (write(tmp_path) / name).unlink()
    with pytest.raises(DataError, match=f"has no {name}"):
        load_dataset(f"cifar10:{tmp_path}")


@pytest.mark.parametrize("inner", ["", "cifar-10-batches-py"], ids=["itself", "within"])
def test_the_python_version_is_told_apart(inner: str, tmp_path: Path) -> None:
    folder = tmp_path / inner
    folder.mkdir(exist_ok=True)
    (folder / "data_batch_1").write_bytes(b"\x80\x02}")
    with pytest.raises(DataError, match=r"is CIFAR-10's Python version, expected the binary one \(cifar-10-binary"):
        load_dataset(f"cifar10:{tmp_path}")
    # Both side by side: the binary one is there, and is taken.
    write(tmp_path / "cifar-10-batches-bin")
    assert len(load_dataset(f"cifar10:{tmp_path}").train) == 10


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: no such folder; expected the files data_batch_1.bin"):
        load_dataset(f"cifar10:{tmp_path / 'nowhere'}")
