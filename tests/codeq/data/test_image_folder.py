"""Folders of real image files in, tensors out; other layouts and broken files by name."""

import gc
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from codeq.data import image_folder, load_dataset
from codeq.data.crop import random_box
from codeq.data.image_folder import MEAN, STD, ImageSplit
from codeq.errors import DataError
from tests.codeq.data.pictures import picture

COLOURS = {"apple": (200, 10, 10), "pear": (10, 200, 10), "plum": (10, 10, 200)}
PER_CLASS = 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes of four images in both splits, of one colour each."""
    for split in ("train", "val"):
        for name, colour in COLOURS.items():
            place = tmp_path / split / name
            place.mkdir(parents=True)
            for number, suffix in zip(range(PER_CLASS), ("jpg", "JPEG", "png", "bmp"), strict=True):
                Image.new("RGB", (40 + number, 30), colour).save(place / f"{number}.{suffix}", quality=95)
    return tmp_path


def denormalise(inputs: torch.Tensor) -> torch.Tensor:
    """Pixels, 0 to 255."""
    return (inputs * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]) * 255


def test_classes_are_numbered_by_name_and_inputs_are_normalised(folder: Path) -> None:
    data = load_dataset(f"images:{folder}", input_size=16)
    assert data.input_shape == (3, 16, 16)
    assert data.num_classes == 3
    assert (data.mean, data.std) == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert data.test.labels.bincount().tolist() == [PER_CLASS] * 3
    colours = torch.tensor(list(COLOURS.values())).float()
    for split, draws in ((data.test, None), (data.train, torch.rand(12, 5))):
        inputs = split.load(torch.arange(12), draws)
        assert inputs.dtype == torch.float32
        assert inputs.is_contiguous()
        expected = colours[split.labels][:, :, None, None].expand(-1, -1, 16, 16)
        torch.testing.assert_close(denormalise(inputs), expected, atol=3, rtol=0)


def test_the_first_positions_are_a_sample_of_all_classes(folder: Path) -> None:
    data = load_dataset(f"images:{folder}")
    labels = data.train.labels.tolist()
    assert labels != sorted(labels)
    assert labels == load_dataset(f"images:{folder}").train.labels.tolist()


def test_the_test_view_is_resized_and_cropped_as_torchvision_does(tmp_path: Path) -> None:
    for suffix, size in (("png", (90, 60)), ("bmp", (48, 100)), ("png", (8, 8))):
        image = picture(*size)
        path = tmp_path / f"image.{suffix}"
        image.save(path)
        split = ImageSplit([str(path)], torch.tensor([0]), input_size=28, flip=True, workers=0)
        resized = image.resize(
            (int(32 * size[0] / min(size)), int(32 * size[1] / min(size))), Image.Resampling.BILINEAR
        )  # 28 * 256 / 224 = 32
        left, top = round((resized.width - 28) / 2), round((resized.height - 28) / 2)
        expected = np.asarray(resized.crop((left, top, left + 28, top + 28)))
        found = denormalise(split.load(torch.tensor([0])))[0].permute(1, 2, 0)
        torch.testing.assert_close(found, torch.from_numpy(expected.copy()).float(), atol=1, rtol=0)


def test_the_training_view_is_the_crop_of_the_draws(tmp_path: Path) -> None:
    image = picture(120, 80)
    image.save(tmp_path / "image.png")
    split = ImageSplit([str(tmp_path / "image.png")], torch.tensor([0]), input_size=24, flip=True, workers=0)
    row = [0.3, 0.8, 0.6, 0.2, 0.9]
    box = random_box(120, 80, row)
    expected = np.asarray(image.resize((24, 24), Image.Resampling.BILINEAR, box)).copy()
    found = denormalise(split.load(torch.tensor([0]), torch.tensor([row])))[0].permute(1, 2, 0)
    torch.testing.assert_close(found, torch.from_numpy(expected).float(), atol=1e-3, rtol=0)
    mirrored = denormalise(split.load(torch.tensor([0]), torch.tensor([[*row[:4], 0.1]])))[0].permute(1, 2, 0)
    torch.testing.assert_close(mirrored, found.flip(1))
    split.flip = False
    unmirrored = denormalise(split.load(torch.tensor([0]), torch.tensor([[*row[:4], 0.1]])))[0].permute(1, 2, 0)
    torch.testing.assert_close(unmirrored, found)


def test_threads_change_nothing(folder: Path, rng: torch.Generator) -> None:
    for number, path in enumerate(sorted((folder / "train").rglob("*.*"))):
        picture(60, 40, number).save(path)
    index, draws = torch.randperm(12, generator=rng), torch.rand(12, 5, generator=rng)
    alone, shared = (load_dataset(f"images:{folder}", input_size=16, workers=workers).train for workers in (0, 2))
    first = alone.load(index, draws)
    assert torch.equal(first, alone.load(index, draws))
    for _ in range(5):
        assert torch.equal(first, shared.load(index, draws))
    assert torch.equal(alone.load(index), shared.load(index))
    assert torch.equal(alone.load(index[4:7], draws[4:7]), first[4:7])


def test_decoders_go_with_the_split(folder: Path) -> None:
    data: Any = load_dataset(f"images:{folder}", input_size=16, workers=2)
    data.train.load(torch.arange(12))
    decoders = [thread for thread in threading.enumerate() if thread.name.startswith("decoder")]
    assert decoders
    del data
    gc.collect()
    for thread in decoders:
        thread.join(10)
        assert not thread.is_alive()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_file_is_named(workers: int, folder: Path) -> None:
    path = folder / "train" / "pear" / "1.JPEG"
    path.write_bytes(b"<html>not found</html>")
    data = load_dataset(f"images:{folder}", input_size=16, workers=workers)
    data.test.load(torch.arange(12))
    for draws in (None, torch.rand(12, 5)):
        with pytest.raises(DataError, match="is not an image") as error:
            data.train.load(torch.arange(12), draws)
        assert str(error.value).startswith(f"{path}: ")
        assert "\n" not in str(error.value)
    healthy = torch.tensor([number for number in range(12) if "pear" not in data.train.paths[number]])  # type: ignore[attr-defined]
    data.train.load(healthy)  # an error leaves the loader usable


def test_an_enormous_image_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)  # 1,200 pixels are more than twice as many
    with pytest.raises(DataError, match=r"cannot be read as an image .*decompression bomb"):
        load_dataset(f"images:{folder}").train.load(torch.tensor([0]))


def test_a_file_that_goes_away_is_named(folder: Path) -> None:
    data = load_dataset(f"images:{folder}")
    for path in (folder / "train" / "plum").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"plum.*cannot be read as an image \(.*No such file"):
        data.train.load(torch.arange(12))


def test_the_test_folder_may_be_called_test_and_other_files_are_left_out(folder: Path) -> None:
    (folder / "val").rename(folder / "test")
    (folder / "train" / "apple" / "notes.txt").write_text("not an image")
    (folder / "train" / "apple" / "._0.jpg").write_bytes(b"not an image either")
    (folder / "train" / ".cache").mkdir()
    (folder / "train" / "apple" / "images").mkdir()
    (folder / "train" / "apple" / "0.jpg").rename(folder / "train" / "apple" / "images" / "0.jpg")
    data = load_dataset(f"images:{folder}", input_size=16)
    assert len(data.train) == len(data.test) == 12
    data.train.load(torch.arange(12))
    Image.new("RGB", (9, 9)).save(folder / "test" / "apple" / "more.png")
    (folder / "test").rename(folder / "val")
    (folder / "test").mkdir()
    assert len(load_dataset(f"images:{folder}").test) == 13  # val/ goes before test/


def _no_folder(folder: Path) -> None:
    (folder / "train").rename(folder / "training")


def _no_test(folder: Path) -> None:
    (folder / "val").rename(folder / "held")
    for number in range(4):
        (folder / f"more{number}").mkdir()


def _flat(folder: Path) -> None:
    for place in (folder / "val").iterdir():
        for image in place.iterdir():
            image.rename(folder / "val" / f"{place.name}{image.name}")
        place.rmdir()


def _no_images(folder: Path) -> None:
    for image in (folder / "val" / "pear").iterdir():
        image.rename(image.with_suffix(".txt"))


def _classes(folder: Path) -> None:
    (folder / "val" / "pear").rename(folder / "val" / "quince")


def _fewer(folder: Path) -> None:
    (folder / "train" / "plum").rename(folder / "plum")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_no_folder, r"has no folder train, expected train/CLASS/IMAGE; found training, val$"),
        (
            _no_test,
            r"has no folder val or test, expected val/CLASS/IMAGE; found held, more0, more1 and 3 more$",
        ),
        (
            _flat,
            r"val: has no folder per class, expected val/CLASS/IMAGE; found apple0.jpg, apple1.JPEG, .* and 9 more$",
        ),
        (_no_images, r"val/pear: holds no image, expected files .jpg, .jpeg, .png, .bmp, .webp$"),
        (_classes, r"train and val must have the same classes; only in train: pear; only in val: quince$"),
        (_fewer, r"train and val must have the same classes; only in train: none; only in val: plum$"),
    ],
    ids=["train", "test", "flat", "empty", "classes", "fewer"],
)
def test_another_layout_says_what_was_expected_and_found(change: Any, message: str, folder: Path) -> None:
    change(folder)
    with pytest.raises(DataError, match=message):
        load_dataset(f"images:{folder}")


def test_bad_requests_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="nowhere: no such folder; expected one with train/ and val or test/"):
        load_dataset(f"images:{folder / 'nowhere'}")
    with pytest.raises(DataError, match="image folders are cropped at random, not shifted; leave the shift out"):
        load_dataset(f"images:{folder}", shift=0)
    monkeypatch.setattr(image_folder, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"need Pillow: pip install '.\[images\]'"):
        load_dataset(f"images:{folder}")
