"""Read a file of tensors that may come from anywhere: nothing in it runs, and nothing in it is taken on trust."""

import pickle
import struct
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from codeq.errors import CheckpointError, first_line
from codeq.toolkit.files import check_ordinary

DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, RuntimeError, EOFError, ValueError)
"""What reading a zip raises whose tables lie; RuntimeError and its subclasses for what torch never writes."""


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
    _check_records(source)
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


def _check_records(source: Path) -> None:
    """Hold every record of a zip to its CRC, which torch does not: damaged weights would be taken for trained ones."""
    try:
        if not zipfile.is_zipfile(source):  # torch says what else it is
            return
        with zipfile.ZipFile(source) as archive:
            damaged = archive.testzip()
    except OSError as error:
        raise CheckpointError(f"{source}: cannot be read ({error.strerror or error})") from error
    except DAMAGED as error:
        raise CheckpointError(f"{source}: is damaged ({first_line(error)}); copy or write it again") from error
    if damaged is not None:
        raise CheckpointError(
            f"{source}: is damaged: its record {damaged} has another CRC than was written; copy or write it again"
        )


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
