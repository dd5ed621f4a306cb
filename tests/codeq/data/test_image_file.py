"""Image files: decoded no larger than needed, to RGB, refused by name."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from codeq.data.crop import InputSize, height_and_width
from codeq.data.image_file import read_image
from codeq.errors import DataError
from tests.codeq.data.pictures import picture


@pytest.mark.parametrize(
    ("size", "input_size", "decoded"),
    [
        ((400, 500), 224, (400, 500)),
        ((400, 500), 100, (200, 250)),
        ((801, 1003), 50, (101, 126)),
        ((400, 500), (50, 160), (200, 250)),  # the box is 320 x 375: half of it has 160 columns
    ],
    ids=["whole", "half", "eighth", "not square"],
)
def test_a_jpeg_is_decoded_no_larger_than_needed(
    size: tuple[int, int],
    input_size: InputSize,
    decoded: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    path = tmp_path / "image.jpg"
    image = picture(*size)
    image.save(path, quality=95)
    seen: list[tuple[int, int]] = []
    resize = Image.Image.resize

    def spy(self: Image.Image, *arguments: Any) -> Image.Image:
        seen.append(self.size)
        return resize(self, *arguments)

    box = (size[0] * 0.1, size[1] * 0.2, size[0] * 0.9, size[1] * 0.95)
    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "resize", spy)
        found = read_image(str(path), input_size, lambda width, height: box)
    assert seen == [decoded]
    height, width = height_and_width(input_size)
    expected = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box))
    difference = np.abs(found.astype(int) - expected.astype(int))
    assert difference.mean() < 1.5  # the same part of the picture
    assert difference.max() < 12


def test_other_kinds_of_images_become_rgb(tmp_path: Path) -> None:
    image = picture(20, 20)
    palette = image.convert("P", palette=Image.Palette.ADAPTIVE)
    palette.info["transparency"] = bytes(range(256))
    kinds = {
        "gray.png": image.convert("L"),
        "gray.jpg": image.convert("L"),
        "alpha.png": image.convert("RGBA"),
        "cmyk.jpg": image.convert("CMYK"),
        "palette.png": palette,
        "bits.png": image.convert("1"),
        "called_jpeg.jpg": image,
    }
    for name, kind in kinds.items():
        kind.save(tmp_path / name, "PNG" if name == "called_jpeg.jpg" else None)
        pixels = read_image(str(tmp_path / name), 10, lambda width, height: (0, 0, width, height))
        assert pixels.shape == (10, 10, 3)
        expected = kind.convert("RGBA").convert("RGB").resize((10, 10), Image.Resampling.BILINEAR)
        assert np.abs(pixels.astype(int) - np.asarray(expected).astype(int)).mean() < 4, name


def jpeg(quality: int = 90) -> bytes:
    stream = io.BytesIO()
    picture(100, 80).save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def png() -> bytes:
    stream = io.BytesIO()
    picture(100, 80).save(stream, "PNG")
    return stream.getvalue()


def deep() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((20, 20), 40_000, np.uint16)).save(stream, "PNG")
    return stream.getvalue()


def gif() -> bytes:
    stream = io.BytesIO()
    picture(10, 10).save(stream, "GIF")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not an image, expected one of JPEG, PNG, BMP, WEBP"),
        (b"<html>not found</html>", "is not an image, expected one of JPEG, PNG, BMP, WEBP"),
        (gif(), "is not an image, expected one of JPEG, PNG, BMP, WEBP"),
        (jpeg()[:1000], "cannot be read as an image"),
        (png()[:300], "cannot be read as an image"),
        (png()[:60] + b"xxxx" + png()[64:], "cannot be read as an image"),
        (deep(), "has pixels of type I;16, expected 8 bits a channel"),
    ],
    ids=["empty", "html", "gif", "jpeg", "png", "checksum", "deep"],
)
def test_a_broken_file_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        read_image(str(path), 10, lambda width, height: (0, 0, width, height))
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
