"""Read a file of tensors that may come from anywhere: nothing in it runs, and nothing in it is taken on trust."""

import io
import pickle
import pickletools
import struct
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from codeq.errors import CheckpointError, first_line
from codeq.seal import is_sealed
from codeq.toolkit.files import check_ordinary
from codeq.toolkit.text import printable

DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, RuntimeError, EOFError, ValueError)
"""What reading a zip raises whose tables lie; RuntimeError and its subclasses for what torch never writes."""
LARGEST_PICKLE = 2**26
"""Bytes of the record that names all values; that of a network of 100,000 tensors has 20 MB."""
NO_PICKLE = (ValueError, EOFError, OverflowError, MemoryError, struct.error)
"""What reading a pickle raises that is none."""
OLD_PICKLES, OLD_VALUES = 4, 3
"""Pickles at the beginning of a file of torch before 1.6, and which of them, from 0, holds the values."""
GLOBALS = frozenset(
    {
        "builtins set",
        "collections Counter",
        "collections OrderedDict",
        "collections defaultdict",
        "torch Size",
        "torch device",
        "torch._utils _rebuild_meta_tensor_no_storage",
        "torch._utils _rebuild_parameter",
        "torch._utils _rebuild_sparse_tensor",
        "torch._utils _rebuild_tensor_v2",
        "torch.serialization _get_layout",
    }
)
"""What a file may name beside dtypes and storages. torch.load(weights_only=True) takes more, among it what reserves
memory for a number that the file gives: bytearray, Tensor."""


def safe_load(source: Path, *, expected: str) -> dict[Any, Any]:
    """Read a dictionary of plain values and tensors onto the CPU, with `weights_only=True`.

    Args:
        source: A file written by `torch.save`.
        expected: What should be there, for the messages, e.g. "a file written by codeq.save".

    Returns:
        The dictionary. Its content may still be anything that is plain: also dictionaries that contain themselves.

    Raises:
        CheckpointError: Missing, no file, unreadable, truncated, damaged, of another format, holding Python objects, or
            holding no dictionary.
    """
    if not source.exists():
        raise CheckpointError(f"{source}: no such file")
    check_ordinary(source, expected, CheckpointError)
    _check_records(source, expected)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's guesses about foreign files; the message below is ours
            payload = torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's own message is a page about weights_only=False, which is the one thing not to do.
        if "weights_only" in str(error).lower() and zipfile.is_zipfile(source):
            raise CheckpointError(
                f"{source}: holds Python objects that could run code, and was not opened; "
                f"expected {expected}, which holds plain values and tensors only"
            ) from error
        raise CheckpointError(f"{source}: not a checkpoint, expected {expected}") from error
    except OSError as error:
        raise CheckpointError(f"{source}: cannot be read ({error.strerror or error})") from error
    except (*DAMAGED, KeyError, IndexError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{source}: not a checkpoint, or truncated ({source.stat().st_size} bytes); expected {expected}"
        ) from error
    if not isinstance(payload, dict):
        raise CheckpointError(f"{source}: holds a {type(payload).__name__}, expected {expected}")
    return payload


def _check_records(source: Path, expected: str) -> None:
    """Hold every record of a zip to its CRC, which torch does not: damaged weights would be taken for trained ones.

    Before that, to its size: what is compressed may be a thousand times as large as the file, and torch compresses not.
    """
    try:
        if not zipfile.is_zipfile(source):
            _check_old_format(source, expected)
            return
        with zipfile.ZipFile(source) as archive:
            records = archive.infolist()
            if any(record.compress_type != zipfile.ZIP_STORED for record in records):
                raise CheckpointError(f"{source}: holds compressed records, which torch.save never writes")
            if sum(record.file_size for record in records) > source.stat().st_size:
                raise CheckpointError(f"{source}: declares more bytes than it has; copy or write it again")
            damaged = archive.testzip()
            if damaged is not None:
                found = f"its record {printable(damaged)} has another CRC than was written"
                raise CheckpointError(f"{source}: is damaged: {found}; copy or write it again")
            if is_sealed(source) is False:
                raise CheckpointError(
                    f"{source}: is damaged: its bytes are not those that were written; copy or write it again"
                )
            for record in records:
                if record.filename.endswith("data.pkl"):
                    _check_pickle(source, io.BytesIO(archive.read(record)), record.file_size, expected)
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"{source}: cannot be read ({error.strerror or error})") from error
    except DAMAGED as error:
        raise CheckpointError(f"{source}: is damaged ({first_line(error)}); copy or write it again") from error


def _check_old_format(source: Path, expected: str) -> None:
    """Check a file as torch wrote them before 1.6: pickles in a row, then bytes. torch reserves what they declare."""
    size = source.stat().st_size
    with source.open("rb") as file:
        for number in range(OLD_PICKLES):
            largest = _check_pickle(source, file, size, expected)
            if number == OLD_VALUES and largest > size:
                raise CheckpointError(f"{source}: declares {largest:,} values, and has {size:,} bytes")


def _check_pickle(source: Path, file: IO[bytes], size: int, expected: str) -> int:
    """See that a pickle names nothing but tensors and plain containers, before anything of it is built.

    Returns:
        The largest integer in it; 0 of what is no pickle, of which torch says what is wrong.
    """
    if size > LARGEST_PICKLE and isinstance(file, io.BytesIO):
        raise CheckpointError(f"{source}: its list of values has {size:,} bytes, more than is read")
    largest = 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's, of texts that are no pickle
            for code, argument, _ in pickletools.genops(file):
                if code.name == "GLOBAL" and str(argument) not in GLOBALS and not _is_tensor_type(str(argument)):
                    name = printable(str(argument).replace(" ", "."))
                    raise CheckpointError(
                        f"{source}: holds Python objects ({name}) that could run code, and was not opened; "
                        f"expected {expected}, which holds plain values and tensors only"
                    )
                if isinstance(argument, int):
                    largest = max(largest, argument)
    except CheckpointError:
        raise
    except NO_PICKLE:
        return 0
    return largest


def _is_tensor_type(name: str) -> bool:
    module, _, kind = name.partition(" ")
    if module != "torch":
        return False
    return kind.endswith("Storage") or isinstance(getattr(torch, kind, None), torch.dtype)


def check_dense(source: Path, name: str, value: Any) -> None:
    """Raise CheckpointError unless a value is an ordinary tensor in memory."""
    if not isinstance(value, Tensor):
        raise CheckpointError(f"{source}: {name} is a {type(value).__name__}, expected a tensor")
    if value.device.type != "cpu":
        raise CheckpointError(f"{source}: {name} is on {value.device}, and has no values here")
    if value.layout != torch.strided:
        raise CheckpointError(f"{source}: {name} has layout {value.layout}, expected torch.strided")


def check_shape(source: Path, name: str, tensor: Tensor, expected: Tensor, *, hint: str = "") -> None:
    """Raise CheckpointError unless two shapes are equal. Before `check_values`: a file may declare any size."""
    if tensor.shape != expected.shape:
        shapes = f"{tuple(tensor.shape)}, expected {tuple(expected.shape)}"
        raise CheckpointError(f"{source}: {name} has shape {shapes}{hint}")


def check_values(source: Path, name: str, tensor: Tensor) -> None:
    """Raise CheckpointError where a state's tensor has values that no training leaves."""
    if name.endswith("running_var") and bool((tensor < 0).any()):
        raise CheckpointError(f"{source}: {name} has negative entries, which no variance has")
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        raise CheckpointError(f"{source}: {name} has NaN or infinite entries; the training run diverged")
