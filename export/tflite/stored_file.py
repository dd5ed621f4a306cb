"""A .tflite file of ours as it was written: its bytes, what it says about itself, and where its tensors lie.

What a check needs is rebuilt from the network and these; nothing is taken from the export that wrote the file.
"""

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from codeq.inputs import Inputs
from codeq.layers import encode
from export.errors import ExportError
from export.fold_batch_norm import fold_batch_norm
from export.metadata import KEY, LITERT, FileMetadata, parse_metadata
from export.prepare import Prepared
from export.program import build_reference_program
from export.run import take_inputs
from export.tflite.build import UINT8_TO_INT8, Build
from export.tflite.flatbuffer import IDENTIFIER, read, read_metadata, tensors_by_name
from export.tflite.lower import build_graph
from export.tflite.stored_layout import Order, StoredLayout
from export.verify import WeightCheck
from export.verify_integer import rebuild_program

DAMAGED = (struct.error, IndexError, KeyError, TypeError, ValueError, AttributeError, OverflowError)
"""What reading a flatbuffer raises whose offsets lead nowhere, and JSON of another form."""


@dataclass(frozen=True, eq=False)
class StoredFile:
    """A file as it was read.

    Attributes:
        data: Its bytes.
        metadata: What it says about itself.
        weights: How each quantized weight lies in it, by name.
        codes: The order of axes of each quantized activation, by name.
        channels_last_io: Inputs and outputs of images have their channels last.
    """

    path: Path
    data: bytes
    metadata: FileMetadata
    weights: dict[str, StoredLayout]
    codes: dict[str, Order]
    channels_last_io: bool


def is_tflite(path: Path) -> bool:
    """Whether a file is one for LiteRT: by its first bytes, or by its name where it has none."""
    if not path.is_file():
        return path.suffix == ".tflite"
    with path.open("rb") as file:
        return file.read(8)[4:] == IDENTIFIER or path.suffix == ".tflite"


def read_bytes(path: Path) -> bytes:
    """The bytes of a .tflite file, whoever wrote it.

    Raises:
        ExportError: Missing, or no .tflite file.
    """
    if path.is_dir():
        raise ExportError(f"{path}: is a folder, expected a .tflite file")
    if not path.exists():
        raise ExportError(f"{path}: no such file")
    data = path.read_bytes()
    if data[4:8] != IDENTIFIER:
        raise ExportError(f"{path}: is not a .tflite file")
    return data


def read_file(path: Path) -> StoredFile:
    """Read a file of `export.tflite`.

    Raises:
        ExportError: Missing, damaged, or not one of ours.
    """
    data = read_bytes(path)
    try:
        content = read(data)
        shapes = {name: tuple(tensor.shape) for name, (_, tensor) in tensors_by_name(content).items()}
        text = read_metadata(content, KEY)
    except DAMAGED as error:
        raise ExportError(f"{path}: is damaged ({type(error).__name__})") from error
    if text is None:
        raise ExportError(f"{path}: has no {KEY!r} metadata, expected a file written by export.tflite")
    metadata = parse_metadata(text, path)
    if metadata.target != LITERT or metadata.layout is None:
        raise ExportError(f"{path}: its {KEY!r} metadata is damaged (no layout)")
    weights, codes, channels_last_io = _read_layout(path, metadata.layout)
    for name, layout in weights.items():
        if math.prod(shapes.get(f"{name}_quantized", ())) != math.prod(layout.view):
            raise ExportError(f"{path}: its {KEY!r} metadata is damaged (no weight {name} of shape {layout.view})")
    for name, order in codes.items():
        if len(shapes.get(f"{name}_quantized", ())) != len(order):
            raise ExportError(f"{path}: its {KEY!r} metadata is damaged (no activation {name})")
    return StoredFile(path, data, metadata, weights, codes, channels_last_io)


def _read_layout(path: Path, layout: Any) -> tuple[dict[str, StoredLayout], dict[str, Order], bool]:
    try:
        weights = {}
        for name, (view, order, *shape) in layout["weights"].items():
            permuted = tuple(view[axis] for axis in order)
            weights[name] = StoredLayout(tuple(view), tuple(order), tuple(shape[0]) if shape else permuted)
        codes = {name: tuple(order) for name, order in layout["activations"].items()}
        return weights, codes, bool(layout["channels_last_io"])
    except DAMAGED as error:
        raise ExportError(f"{path}: its {KEY!r} metadata is damaged ({error})") from error


def rebuild(file: StoredFile, model: nn.Module, inputs: Inputs) -> tuple[Prepared, Build]:
    """What the check of an export takes, from the network and the file.

    Args:
        file: From `read_file`.
        model: The network that the file should have been made from.
        inputs: To check with, as the network takes them.

    Raises:
        ExportError: The network cannot be traced, or the file lacks a grid.
    """
    held, names = take_inputs(model, inputs)
    if file.metadata.activations is not None:
        program = rebuild_program(model, inputs, file.metadata)
        folded = 0
    else:
        program = build_reference_program(model, tuple(tensor[:2] for tensor in held), encode(model), names=names)
        folded = fold_batch_norm(program)
    build = build_graph(program, channels_last_io=file.channels_last_io)
    build.weights, build.codes = file.weights, file.codes
    return Prepared(program, encode(model), held, names, folded), build


def check_grids(file: StoredFile) -> tuple[WeightCheck, ...]:
    """Every quantized activation against the grid that the file's metadata gives it; what differs.

    A scale that is off by less than changes a code would else go unnoticed.
    """
    tensors = tensors_by_name(read(file.data))
    checks = []
    for name, grid in (file.metadata.activations or {}).items():
        label = f"{name}_quantized"
        if label not in tensors:
            continue  # the check of codes says so
        quantization = tensors[label][1].quantization
        scale = None if quantization is None or quantization.scale is None else np.asarray(quantization.scale)
        if scale is None or scale.tolist() != [np.float32(grid.scale)]:
            found = "none" if scale is None else f"{float(scale.flat[0]):.9g}"
            checks.append(WeightCheck(label, None, False, f"its scale is {found}, and {grid.scale:.9g} was exported"))
        elif np.asarray(quantization.zeroPoint).tolist() != [grid.zero_point + UINT8_TO_INT8]:
            checks.append(WeightCheck(label, None, False, "its zero point is not the one that was exported"))
    return tuple(checks)
