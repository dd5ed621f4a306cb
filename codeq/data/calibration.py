"""Read calibration inputs from what people have: images, arrays in files, or a function of theirs that gives batches.

| source | what it is |
|---|---|
| a folder of images | in sub-folders or not; resized, cropped and normalised as in tests |
| a folder of .npy files | one input each, with or without a batch axis |
| FILE.npy | `(N, ...)` |
| FILE.npz | one such array, or one for each of several inputs by its name; `labels` are left out of these |
| package.module:function | returns or yields what `collect_calibration` takes |
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from codeq.data.array_file import read_array_file
from codeq.data.collect import LABELS, collect_calibration
from codeq.data.crop import InputSize
from codeq.data.expected import ExpectedInput
from codeq.data.image_file import SUFFIXES
from codeq.data.plain_folder import list_files, read_array_inputs, read_image_inputs
from codeq.data.user_batches import names_function, user_batches
from codeq.errors import CalibrationError
from codeq.graph.inputs import Inputs

__all__ = ["collect_calibration", "holds_images", "read_calibration", "read_named_calibration"]

SOURCES = "a folder of images or of .npy files, an .npy or .npz file, or package.module:function"


def read_calibration(
    source: str | Path,
    *,
    input_size: InputSize | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    channels: int | None = None,
    count: int | None = None,
    arity: int | None = None,
    arguments: Sequence[str] = (),
    names: Sequence[str] = (),
    input_shape: tuple[int, ...] | None = None,
    dtype: torch.dtype | None = None,
) -> Inputs:
    """Read calibration inputs.

    Args:
        source: As in the table above. What exists is read; else a text of the form `package.module:function` names
            code that is imported and called: take such a text from a command line, never from a file.
        input_size: Height and width that images are brought to; one number where they are equal.
        mean, std: For images, of pixels scaled to [0, 1]: a number for each channel, or one for all. None leaves the
            pixels as they are there, and a note says so.
        channels: Of an image, 1 or 3, where neither `input_shape` nor three numbers of `mean` say it. None is 1 for one
            number of `mean`, else 3.
        count: Inputs to take: of a folder spread evenly over its sorted files, else the first. None takes all of a
            file, and of a folder or a function as many as `default_count` says.
        arity: How many inputs the network needs at least, where its names are not given: as for `collect_calibration`.
        arguments: Names of all that it could be given then: one array of an .npz that has such a name keeps it.
        names: Of the network's arguments, in their order, where it takes several by name: those of an .npz's arrays.
        input_shape: Shape of one input without its batch dimension, where the network takes one and it is known: what
            is read is held to it, and images need no `input_size`.
        dtype: What the network takes then; None any.

    Returns:
        A tensor `(N, ...)`; several by name, or as a tuple where a function gives such.

    Raises:
        CalibrationError: Nothing there; damaged; another shape, dtype or name; NaN or infinite values; or what the
            function raised.
        DataError: Pillow is not installed, or a file cannot be read as an image.
        CodeqError: The function cannot be imported.
    """
    if count is not None and count < 1:
        raise ValueError(f"count must be at least 1, found {count}")
    path, expected = _as_path(source), ExpectedInput(input_shape, dtype)
    if path.is_dir():
        images, arrays = list_files(path)
        tensor = (
            read_image_inputs(
                path,
                images,
                input_size=input_size,
                mean=mean,
                std=std,
                channels=channels,
                count=count,
                expected=expected,
            )
            if images
            else read_array_inputs(path, arrays, count=count, expected=expected)
        )
        return collect_calibration(tensor, source=str(path))
    if path.exists():
        return _read_file(path, count, arguments, tuple(names), expected)
    if isinstance(source, str) and names_function(source):
        return _read_function(source, count, arity, tuple(names), expected)
    raise CalibrationError(f"{source}: no such file or folder, expected {SOURCES}")


def read_named_calibration(
    source: str | Path, expected: Mapping[str, ExpectedInput], *, count: int | None = None
) -> dict[str, Tensor]:
    """Read calibration inputs of a network that takes several by name, each of a known shape and dtype.

    Args:
        source: FILE.npz or package.module:function, as for `read_calibration`. Tuples are in the order of `expected`.
        expected: In the order of the network's arguments.
        count: Inputs to take.

    Returns:
        Tensors `(N, *shape)` by name, in the order of `expected`.

    Raises:
        CalibrationError: As for `read_calibration`.
    """
    names = tuple(expected)
    if _as_path(source).is_dir():
        keywords = ", ".join(f"{name}=..." for name in names)
        raise CalibrationError(
            f"{source}: is a folder, which holds one input each, and the network takes {', '.join(names)}; write them "
            f"with numpy.savez('inputs.npz', {keywords}), or give package.module:function"
        )
    found = read_calibration(source, count=count, names=names)
    if isinstance(found, Tensor):
        if len(names) > 1:
            raise CalibrationError(f"{source}: holds one input, expected {', '.join(names)}")
        found = {names[0]: found}
    elif not isinstance(found, Mapping):
        found = dict(zip(names, found, strict=True))
    for name, tensor in found.items():
        expected[name].check(f"{source}: {name!r}", tensor)
    return dict(found)


def holds_images(source: str | Path) -> bool:
    """Say whether a source is a folder of images, which a mean and a standard deviation belong to.

    Raises:
        CalibrationError: A folder with nothing to read.
    """
    path = _as_path(source)
    return path.is_dir() and bool(list_files(path)[0])


def _as_path(source: str | Path) -> Path:
    if not str(source):  # a shell's variable that is not set; as a path it would be the working folder
        raise CalibrationError(f"the source of calibration inputs is an empty text, expected {SOURCES}")
    return Path(source)


def _read_file(
    path: Path, count: int | None, arguments: Sequence[str], names: tuple[str, ...], expected: ExpectedInput
) -> Inputs:
    if path.suffix.lower() in SUFFIXES:
        raise CalibrationError(f"{path}: is one image, expected a folder of them: give the folder that it is in")
    arrays = read_array_file(path)
    if len(names) > 1:
        arrays = {name: array for name, array in arrays.items() if name in names or name not in LABELS}
    if len(names) > 1 and set(arrays) != set(names):
        held = ", ".join(name or "one array without a name" for name in arrays) or "no array"
        keywords = ", ".join(f"{name}=..." for name in names)
        raise CalibrationError(
            f"{path}: holds {held}, expected {', '.join(names)}; write it with numpy.savez(path, {keywords})"
        )
    one_wanted = expected.shape is not None or len(names) == 1
    if not arrays or (len(arrays) > 1 and one_wanted):
        raise CalibrationError(f"{path}: holds {len(arrays)} arrays, expected one of inputs")
    for name, array in arrays.items():
        place = f"{path}: {name!r}" if name else str(path)
        expected.check(place, array)
        if array.ndim and not len(array):
            raise CalibrationError(f"{place} holds no inputs, expected {expected}")
    if "" in arrays:
        return collect_calibration(arrays[""], count=count, source=str(path))
    order = names if len(names) > 1 else arrays
    found = collect_calibration({name: arrays[name] for name in order}, count=count, source=str(path))
    return _only(found) if len(found) == 1 and next(iter(order)) not in arguments else found


def _read_function(
    spec: str, count: int | None, least: int | None, names: tuple[str, ...], expected: ExpectedInput
) -> Inputs:
    arity = 1 if expected.shape is not None else len(names) or None
    found = collect_calibration(user_batches(spec), count=count, arity=arity or least, names=names, source=f"{spec}()")
    size = 1 if isinstance(found, Tensor) else len(found)
    if arity is not None and size != arity:
        raise CalibrationError(f"{spec}() gives {size} inputs in a batch, the network takes {arity}")
    if expected.shape is not None:
        expected.check(f"{spec}(): all its batches together", _only(found))
        return _only(found)
    if names and isinstance(found, Mapping):  # several by name, in the order that the network has them
        if set(found) != set(names):
            raise CalibrationError(f"{spec}() gives {', '.join(found)}, expected {', '.join(names)}")
        return {name: found[name] for name in names}
    return found


def _only(inputs: Inputs) -> Tensor:
    """The one tensor of a call."""
    if isinstance(inputs, Tensor):
        return inputs
    (tensor,) = inputs.values() if isinstance(inputs, Mapping) else inputs
    return tensor
