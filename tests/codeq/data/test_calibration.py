"""Calibration inputs from folders, files and functions: what is read, and one line for what is not."""

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from codeq.data import load_dataset, plain_images
from codeq.data.calibration import holds_images, read_calibration
from codeq.data.image_folder import MEAN, STD
from codeq.errors import CodeqError
from tests.codeq.data.pictures import picture

pytestmark = pytest.mark.quick

X = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2)
IDS = np.arange(6).reshape(2, 3)


def tensor(source: Any, **options: Any) -> Tensor:
    found = read_calibration(source, **options)
    assert isinstance(found, Tensor)
    return found


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Images below a folder, two of three in a class of their own, and what else lies about there."""
    folder = tmp_path / "pictures"
    for number, name in enumerate(("b/2.png", "b/1.JPG", "c.bmp")):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(50 + number, 40, seed=number).save(path)
    (folder / "notes.txt").write_text("hello")
    (folder / "b" / "._1.JPG").write_bytes(b"what another system left behind")
    return folder


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    folder = tmp_path / "arrays"
    (folder / "more").mkdir(parents=True)
    np.save(folder / "b.npy", X[0])
    np.save(folder / "more" / "a.npy", X[1])
    return folder


# Images


def test_images_are_the_inputs_that_tests_of_a_data_set_have(pictures: Path, tmp_path: Path) -> None:
    for split in ("train", "val"):
        (tmp_path / "data" / split).mkdir(parents=True)
        (tmp_path / "data" / split / "all").symlink_to(pictures)
    data = load_dataset(f"images:{tmp_path / 'data'}", input_size=16)
    expected = data.test.load(torch.arange(3))
    order = sorted(range(3), key=lambda number: data.test.paths[number])  # type: ignore[attr-defined]
    found = tensor(pictures, input_size=16, mean=MEAN, std=STD)
    assert torch.equal(found, expected[order])
    by_shape = tensor(str(pictures), input_shape=(3, 16, 16), dtype=torch.float32, mean=MEAN, std=STD)
    assert torch.equal(by_shape, found)


def test_without_a_mean_pixels_stay_between_0_and_1(pictures: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = tensor(pictures, input_size=(8, 12))
    assert f"{pictures}: pixels are scaled to [0, 1] and no further; give mean and std" in caplog.text
    caplog.clear()
    assert found.shape == (3, 3, 8, 12)
    assert 0 <= float(found.min()) < 0.2
    assert 0.8 < float(found.max()) <= 1
    normalised = tensor(pictures, input_size=(8, 12), mean=[0.5] * 3, std=[0.25] * 3)
    torch.testing.assert_close(normalised, (found - 0.5) / 0.25)
    for known in ({"channels": 3}, {"input_shape": (3, 8, 12)}):  # one number is every channel's
        assert torch.equal(tensor(pictures, **({"input_size": (8, 12)} | known), mean=[0.5], std=[0.25]), normalised)
    assert not caplog.text


def test_images_that_are_not_square_are_cropped_from_the_middle(tmp_path: Path) -> None:
    # 7 x 14 covers 8 x 16 resized pixels; the image has them, so that pixels are taken as they are.
    pixels = np.arange(8 * 16, dtype=np.uint8).reshape(8, 16)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    found = tensor(tmp_path, input_shape=(1, 7, 14))
    assert torch.equal((found * 255).round().to(torch.uint8)[0, 0], torch.from_numpy(pixels[0:7, 1:15].copy()))


def test_one_channel_is_grey(pictures: Path) -> None:
    colours, grey = (tensor(pictures, input_size=8, mean=mean, std=[1.0] * len(mean)) for mean in ([0.0] * 3, [0.0]))
    assert grey.shape == (3, 1, 8, 8)
    luma = (colours * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    torch.testing.assert_close(grey, luma, atol=0.51 / 255, rtol=0)
    by_shape = tensor(pictures, input_shape=(1, 8, 8))
    assert torch.equal(by_shape, grey)


def test_a_count_is_spread_over_a_folder(pictures: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = tensor(pictures, input_size=8)
    assert torch.equal(tensor(pictures, input_size=8, count=2), whole[[0, 1]])
    for number in range(6):
        picture(50, 40, seed=9).save(pictures / f"z{number}.png")  # a class of its own
    with caplog.at_level(logging.INFO):
        found = tensor(pictures, input_size=8, count=3)
    assert "3 of 9 files are taken" in caplog.text
    assert torch.equal(found[0], whole[0])
    assert torch.equal(found[1], found[2])


def test_images_need_pillow(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_images, "find_spec", lambda name: None)
    with pytest.raises(CodeqError, match=r"^images need Pillow: pip install '\.\[images\]'"):
        read_calibration(pictures, input_size=8)


def test_what_holds_images(pictures: Path, arrays: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    assert holds_images(pictures)
    assert not any(map(holds_images, (arrays, tmp_path / "x.npy", "module:function", tmp_path / "none")))


# Arrays


@pytest.mark.parametrize(
    "options", [{}, {"input_shape": (3, 2, 2)}, {"input_shape": (3, 2, 2), "dtype": torch.float32}]
)
def test_a_folder_of_arrays(options: dict[str, Any], arrays: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert torch.equal(tensor(arrays, **options), torch.from_numpy(X))
    assert f"{arrays}: files are taken as arrays without a batch axis, one input each" in caplog.text
    for path, batch in ((arrays / "b.npy", X[:1]), (arrays / "more" / "a.npy", X[1:])):
        np.save(path, batch)
    assert torch.equal(tensor(arrays, **options), torch.from_numpy(X)), "with a batch axis"
    assert f"{arrays}: files are taken as arrays with a batch axis" in caplog.text
    assert torch.equal(tensor(arrays, count=1, **options), torch.from_numpy(X[:1]))


def test_the_network_decides_whether_a_first_axis_is_the_batch(tmp_path: Path) -> None:
    np.save(tmp_path / "grey.npy", X[:1, 0])
    assert tensor(tmp_path).shape == tensor(tmp_path, input_shape=(1, 2, 2)).shape == (1, 1, 2, 2)
    assert tensor(tmp_path, input_shape=(2, 2)).shape == (1, 2, 2)
    np.save(tmp_path / "grey.npy", X[:, 0])
    assert tensor(tmp_path, input_shape=(2, 2)).shape == (2, 2, 2), "a file may hold several"


def test_files_of_arrays(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    np.savez(tmp_path / "x.npz", X)
    for path in (tmp_path / "x.npy", str(tmp_path / "x.npz")):
        for options in ({}, {"input_shape": (3, 2, 2), "dtype": torch.float32}, {"names": ["image"]}):
            assert torch.equal(tensor(path, **options), torch.from_numpy(X))
        assert torch.equal(tensor(path, count=1), torch.from_numpy(X[:1]))


@pytest.mark.parametrize(("names", "order"), [((), ["mask", "ids"]), (("ids", "mask"), ["ids", "mask"])])
def test_several_inputs_by_name(names: tuple[str, ...], order: list[str], tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", mask=IDS > 2, ids=IDS)
    found = read_calibration(tmp_path / "x.npz", names=names)
    assert isinstance(found, dict)
    assert list(found) == order
    assert torch.equal(found["ids"], torch.from_numpy(IDS))
    assert found["mask"].dtype == torch.bool


def test_one_array_keeps_the_name_of_an_argument(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", mask=IDS)
    found = read_calibration(tmp_path / "x.npz", arguments=("ids", "mask"))
    assert isinstance(found, dict)
    assert list(found) == ["mask"]
    assert torch.equal(tensor(tmp_path / "x.npz", arguments=("ids",)), torch.from_numpy(IDS))


# Functions

MODULE = """
import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

X = torch.arange(24.0).reshape(2, 3, 2, 2)
IDS = torch.arange(6).reshape(2, 3)

def whole(): return X
def array(): return X.numpy()
def with_labels(): return X, torch.tensor([1, 0])
def loader(): return DataLoader(TensorDataset(X, torch.tensor([1, 0])))
def named(): return {"mask": IDS > 2, "ids": IDS}
def nothing(): return None
def text(): return "inputs.npz"
def double(): yield X.double()
def wrong(): yield X[:, :, :1]
def three(): yield X, X, X
def with_targets():
    yield X[:1], X[:1, 0]
    yield X[1:], X[1:, 0]
def needs(path): return X
def stops(): raise SystemExit(3)
number = 8

def steps():
    yield X[:1]
    from helper_of_ours import rest  # found only while the user's folder comes first
    yield rest(X)

def breaks():
    yield X
    raise OSError("the disk is gone")
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "calibration_of_ours.py").write_text(MODULE)
    (tmp_path / "helper_of_ours.py").write_text("def rest(x): return x[1:]\n")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize("name", ["whole", "array", "with_labels", "with_targets", "loader", "steps"])
def test_functions(name: str) -> None:
    found = tensor(f"calibration_of_ours:{name}", input_shape=(3, 2, 2), dtype=torch.float32)
    assert torch.equal(found, torch.from_numpy(X))


@pytest.mark.usefixtures("module")
def test_functions_that_give_names() -> None:
    found = read_calibration("calibration_of_ours:named", names=("ids", "mask"))
    assert list(found) == ["ids", "mask"]
    assert list(read_calibration("calibration_of_ours:named")) == ["mask", "ids"]
    assert tensor("calibration_of_ours:whole", count=1).shape == (1, 3, 2, 2)


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none", r": cannot be imported \(module 'calibration_of_ours' has no attribute 'none'\)"),
        ("number", ": is a int, expected a function that gives batches"),
        ("needs", r": raised TypeError \(needs\(\) missing 1 required positional argument: 'path'\)"),
        ("stops", r": raised SystemExit \(3\)"),
        ("breaks", r": raised OSError \(the disk is gone\)"),
        ("nothing", r"\(\) is a NoneType, expected a tensor, an array"),
        ("text", r"\(\) is the text 'inputs.npz', expected inputs"),
        ("double", r"\(\), batch 0 is torch.float64 \(2, 3, 2, 2\), which no network takes"),
        ("wrong", r"\(\): all its batches together is float32 \(2, 3, 1, 2\), expected float32 \(N, 3, 2, 2\)"),
        ("three", r"\(\) gives 3 inputs in a batch, the network takes 1"),
    ],
)
def test_functions_that_give_no_inputs(name: str, message: str) -> None:
    with pytest.raises(CodeqError, match=rf"^calibration_of_ours:{name}{message}") as caught:
        read_calibration(f"calibration_of_ours:{name}", input_shape=(3, 2, 2), dtype=torch.float32)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("module")
def test_a_file_of_code_is_named_as_a_module() -> None:
    with pytest.raises(
        CodeqError, match=r"calibration_of_ours\.py:whole: names a file, expected a module: calibration"
    ):
        read_calibration("calibration_of_ours.py:whole")


@pytest.mark.usefixtures("module")
def test_a_file_of_the_name_of_a_function_is_read_not_run() -> None:
    Path("calibration_of_ours:stops").write_bytes(b"hello")
    with pytest.raises(CodeqError, match=r"is not an \.npy or \.npz file"):
        read_calibration("calibration_of_ours:stops")
    with pytest.raises(CodeqError, match="no such file or folder"):
        read_calibration(Path("calibration_of_ours:whole"))  # a path names no code


# Refused


def saved(*inputs: Any) -> Any:
    def write(folder: Path) -> Path:
        for number, x in enumerate(inputs):
            np.save(folder / f"{number}.npy", x)
        return folder

    return write


def npz(**named: Any) -> Any:
    def write(folder: Path) -> Path:
        np.savez(folder / "x.npz", **named)
        return folder / "x.npz"

    return write


def images(folder: Path) -> Path:
    picture(8, 8).save(folder / "x.png")
    return folder


def damaged_image(folder: Path) -> Path:
    images(folder)
    content = (folder / "x.png").read_bytes()
    (folder / "x.png").write_bytes(content[: len(content) // 2])
    return folder


def mixed(folder: Path) -> Path:
    return saved(X[0])(images(folder))


def other(folder: Path) -> Path:
    for name in ("a.gif", "b.txt", "c.txt", "d.txt", "e.txt"):
        (folder / name).write_bytes(b"")
    return folder


def spoiled(row: int = 1) -> np.ndarray:
    x = X.copy()
    x[row, 0, 0, 0] = np.nan
    return x


SHAPE: dict[str, Any] = {"input_shape": (3, 2, 2), "dtype": torch.float32}

REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "nothing": (
        lambda folder: folder / "none",
        {},
        "none: no such file or folder, expected a folder of images or of .npy",
    ),
    "a path like a function": (lambda folder: folder / "a:b", {}, "a:b: no such file or folder"),
    "an empty folder": (
        lambda folder: folder,
        {},
        "holds no images (.jpg, .jpeg, .png, .bmp, .webp) and no .npy files; found n",
    ),
    "other files": (other, {}, "and no .npy files; found a.gif, b.txt, c.txt and 2 more"),
    "two kinds": (mixed, {}, "holds 1 images and 1 .npy files, expected one kind"),
    "no size": (images, {}, "holds images; say in input_size (--input-size) what height and width the network takes"),
    "another size": (images, {**SHAPE, "input_size": 3}, "input_size is 3, but the network takes float32 (N, 3, 2, 2)"),
    "no images wanted": (
        images,
        {"input_shape": (40,)},
        "holds images, but the network takes an array (N, 40); give arr",
    ),
    "one image": (lambda folder: images(folder) / "x.png", {}, "x.png: is one image, expected a folder of them: give"),
    "four channels": (images, {"input_shape": (4, 2, 2)}, "holds images, but the network takes an array (N, 4, 2, 2)"),
    "a mean alone": (images, {**SHAPE, "mean": MEAN}, "holds images, which need both mean and std, or neither"),
    "two channels": (
        images,
        {"input_size": 2, "mean": [0, 0], "std": [1, 1]},
        "mean has 2 and std 2 numbers, expected 3 each for RGB or 1 for grey",
    ),
    "means of other channels": (
        images,
        {**SHAPE, "mean": [0.5, 0.5], "std": [0.5]},
        "mean has 2 and std 1 numbers, expected 3 each for float32 (N, 3, 2, 2)",
    ),
    "no deviation": (images, {**SHAPE, "mean": MEAN, "std": [1, 0, 1]}, "expected finite numbers, of std above 0"),
    "half an image": (damaged_image, SHAPE, "x.png: cannot be read as an image (image file is truncated"),
    "token ids of images": (
        images,
        {**SHAPE, "dtype": torch.int64},
        "a batch of its images is float32 (1, 3, 2, 2), expe",
    ),
    "arrays that differ": (
        saved(X[0], X[1], X[0, :2]),
        {},
        "2.npy: inputs are float32 (2, 2, 2), expected float32 (3, 2, 2) as in ",
    ),
    "an array of another shape": (
        saved(X[0], X[0, :2]),
        SHAPE,
        "1.npy: one input, taken as a batch of 1, is float32 (1, 2, 2, 2), expected float32 (N, 3, 2, 2)",
    ),
    "an array of NaN": (saved(X[0], spoiled()[1]), SHAPE, "1.npy: input 0 has NaN or infinite values"),
    "an array of float64": (
        saved(X[0].astype(float)),
        {},
        "0.npy: a batch is float64 (1, 3, 2, 2), which no network tak",
    ),
    "names of other arrays": (
        npz(ids=IDS, wrong=IDS),
        {"names": ("ids", "mask")},
        "x.npz: holds ids, wrong, expected ids, mask; write it with numpy.savez(path, ids=..., mask=...)",
    ),
    "one array for two": (npz(x=X), {"names": ("ids", "mask")}, "x.npz: holds x, expected ids, mask"),
    "two arrays for one": (npz(x=X, y=X), SHAPE, "x.npz: holds 2 arrays, expected one of inputs"),
    "no arrays": (npz(), {}, "x.npz: holds 0 arrays, expected one of inputs"),
    "another shape": (npz(x=X[:, :2]), SHAPE, "x.npz: 'x' is float32 (2, 2, 2, 2), expected float32 (N, 3, 2, 2)"),
    "no batch axis": (npz(x=X[0]), SHAPE, "'x' is float32 (3, 2, 2), expected float32 (N, 3, 2, 2)"),
    "a number": (npz(x=np.float32(1)), SHAPE, "'x' is float32 (), expected"),
    "channels last": (
        npz(x=np.ones((2, 4, 5, 3), np.float32)),
        {**SHAPE, "input_shape": (3, 4, 5)},
        "expected float32 (N, 3, 4, 5); its channels are last: transpose(0, 3, 1, 2)",
    ),
    "pixels": (
        npz(x=X.astype(np.uint8)),
        SHAPE,
        "'x' is uint8 (2, 3, 2, 2), expected float32 (N, 3, 2, 2); scale and n",
    ),
    "float64": (npz(x=X.astype(float)), SHAPE, "expected float32 (N, 3, 2, 2); convert it: astype('float32')"),
    "no rows": (npz(x=X[:0]), SHAPE, "'x' holds no inputs, expected float32 (N, 3, 2, 2)"),
    "NaN": (npz(x=spoiled()), SHAPE, "x.npz: input 1 of 'x' has NaN or infinite values"),
    "NaN beside others": (npz(x=X, y=spoiled(0)), {}, "x.npz: input 0 of 'y' has NaN values"),
    "other rows": (
        npz(x=X, y=X[:1]),
        {},
        "x.npz: 'y' is float32 (1, 3, 2, 2), expected 2 along the first axis, as the f",
    ),
    "objects": (
        npz(x=np.array([{}], object)),
        SHAPE,
        "x.npz: is not an .npy or .npz file of plain arrays (numpy.save, n",
    ),
}


@pytest.mark.parametrize(("write", "options", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(write: Any, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    source = write(tmp_path)
    with pytest.raises(CodeqError, match=f"^{re.escape(str(tmp_path))}.*{re.escape(message)}") as caught:
        read_calibration(source, **options)
    assert "\n" not in str(caught.value)


def test_an_npz_file_among_arrays(arrays: Path) -> None:
    np.savez(arrays / "c", x=X)
    (arrays / "c.npz").rename(arrays / "c.npy")
    with pytest.raises(CodeqError, match=r"c\.npy: is an \.npz file, expected an \.npy file of one input"):
        read_calibration(arrays)


def test_an_empty_text_is_not_the_working_folder(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pictures)
    for read in (read_calibration, holds_images):
        with pytest.raises(
            CodeqError, match=r"^the source of calibration inputs is an empty text, expected a folder of"
        ):
            read("")


def test_a_count_is_positive(arrays: Path) -> None:
    with pytest.raises(ValueError, match="count must be at least 1, found 0"):
        read_calibration(arrays, count=0)
