"""Read a folder of inputs without labels: images, or .npy files of one input each; sub-folders count as one.

A folder that holds more than are wanted gives files spread evenly over its sorted paths, so that every class of a data
set that has a folder for each is among them.
"""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from codeq.data.array_file import SUFFIX, read_array_file
from codeq.data.collect import check_values, default_count, to_tensor
from codeq.data.crop import InputSize, height_and_width
from codeq.data.expected import ExpectedInput
from codeq.data.image_file import SUFFIXES
from codeq.data.normalise import per_channel
from codeq.data.plain_images import read_images
from codeq.errors import CalibrationError

logger = logging.getLogger(__name__)

LONGEST_INPUT = 3
"""Axes of one input where nothing is known of the network: an array that has more and begins with 1 is a batch."""
SHOWN = 3


def list_files(folder: Path) -> tuple[list[str], list[str]]:
    """List the images and the .npy files below a folder, each sorted by path; one of the two is empty.

    Raises:
        CalibrationError: It has neither, or both.
    """
    entries = (os.path.join(parent, file) for parent, _, files in os.walk(folder) for file in files if file[0] != ".")
    found = sorted(filter(os.path.isfile, entries))
    images = [path for path in found if path.lower().endswith(SUFFIXES)]
    arrays = [path for path in found if path.lower().endswith(SUFFIX)]
    if images and arrays:
        raise CalibrationError(f"{folder}: holds {len(images)} images and {len(arrays)} .npy files, expected one kind")
    if not images and not arrays:
        names = [os.path.relpath(path, folder) for path in found]
        shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
        raise CalibrationError(
            f"{folder}: holds no images ({', '.join(SUFFIXES)}) and no .npy files; found {shown or 'nothing'}"
        )
    return images, arrays


def read_image_inputs(
    folder: Path,
    paths: Sequence[str],
    *,
    input_size: InputSize | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    channels: int | None,
    count: int | None,
    expected: ExpectedInput,
) -> Tensor:
    """Read images as `read_calibration` says; paths are of `list_files`.

    Raises:
        CalibrationError: The network takes no images; no size; or a mean and a standard deviation that do not fit.
        DataError: Pillow is not installed, or a file cannot be read as an image.
    """
    height, width = _size(folder, input_size, expected)
    if (mean is None) != (std is None):
        raise CalibrationError(f"{folder}: holds images, which need both mean and std, or neither")
    normalised = mean is not None
    mean, std = mean or [0.0], std or [1.0]
    channels = expected.shape[0] if expected.shape else channels or (max(len(mean), len(std)) if normalised else 3)
    wanted = f"{channels} each for {expected}" if expected.shape else "3 each for RGB or 1 for grey"
    if channels not in (1, 3):
        raise CalibrationError(f"{folder}: mean has {len(mean)} and std {len(std)} numbers, expected {wanted}")
    mean, std = per_channel(mean, std, channels, folder, wanted)
    taken = _spread(folder, paths, count or default_count(channels * height * width))
    images = read_images(taken, (height, width), mean, std)
    expected.check(f"{folder}: a batch of its images", images)
    if not normalised:
        logger.warning(
            "%s: pixels are scaled to [0, 1] and no further; give mean and std (--mean, --std) if training did", folder
        )
    return images


def read_array_inputs(folder: Path, paths: Sequence[str], *, count: int | None, expected: ExpectedInput) -> Tensor:
    """Read .npy files as `read_calibration` says; paths are of `list_files`.

    A file has a batch axis where it has one axis more than `expected.shape`; where that is not known, where it has more
    than `LONGEST_INPUT` axes and the first is 1.

    Raises:
        CalibrationError: A file that is damaged, holds NaN or infinite values, or differs from what is expected.
    """
    first, has_batch = _read_input(Path(paths[0]), expected)
    form = "with a batch axis" if has_batch else "without a batch axis, one input each"
    logger.info("%s: files are taken as arrays %s", folder, form)
    taken = _spread(folder, paths, count or default_count(first[:1].numel()))
    tensors = [_read_input(Path(path), expected)[0] for path in taken]
    for path, tensor in zip(taken, tensors, strict=True):
        if (tensor.dtype, tensor.shape[1:]) != (first.dtype, first.shape[1:]):
            kinds = [f"{str(x.dtype).removeprefix('torch.')} {tuple(x.shape[1:])}" for x in (tensor, first)]
            raise CalibrationError(
                f"{path}: inputs are {kinds[0]}, expected {kinds[1]} as in {paths[0]}; resize or pad them alike"
            )
    return torch.cat(tensors)[:count]


def _size(folder: Path, input_size: InputSize | None, expected: ExpectedInput) -> tuple[int, int]:
    """Height and width of the network's inputs."""
    shape = expected.shape
    if shape is None:
        if input_size is None:
            raise CalibrationError(
                f"{folder}: holds images; say in input_size (--input-size) what height and width the network takes"
            )
        return height_and_width(input_size)
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise CalibrationError(f"{folder}: holds images, but the network takes {expected}; give arrays")
    if input_size is not None and height_and_width(input_size) != shape[1:]:
        raise CalibrationError(f"{folder}: input_size is {input_size}, but the network takes {expected}; leave it out")
    return shape[1], shape[2]


def _spread(folder: Path, paths: Sequence[str], count: int) -> list[str]:
    wanted = min(len(paths), count)
    logger.info("%s: %d of %d files are taken", folder, wanted, len(paths))
    return [paths[number * len(paths) // wanted] for number in range(wanted)]


def _read_input(path: Path, expected: ExpectedInput) -> tuple[Tensor, bool]:
    """Read a file of one input, or of several with a batch axis, as `(N, ...)`; and say whether it had the axis."""
    arrays = read_array_file(path)
    if list(arrays) != [""]:
        raise CalibrationError(f"{path}: is an .npz file, expected an .npy file of one input; name it by itself")
    array = arrays[""]
    if expected.shape is not None:
        is_batch = array.ndim == len(expected.shape) + 1
    else:
        is_batch = array.ndim > LONGEST_INPUT and array.shape[0] == 1
    batch = array if is_batch else array[None]
    expected.check(f"{path}: {'a batch' if is_batch else 'one input, taken as a batch of 1,'}", batch)
    tensor = to_tensor(batch, f"{path}: a batch")
    check_values(tensor, str(path))
    return tensor, is_batch
