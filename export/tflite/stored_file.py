"""A .tflite file of ours as it was written: its bytes, what it says about itself, and where its tensors lie.

What a check needs is rebuilt from the network and these; nothing is taken from the export that wrote the file.
"""

import math
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from codeq.graph.inputs import Inputs
from codeq.quantizer.attach import encode
from export.errors import ExportError
from export.metadata import KEY, LITERT, FileMetadata, parse_metadata
from export.onnx.verify import WeightCheck
from export.onnx.verify_integer import rebuild_program
from export.program.fold_batch_norm import fold_batch_norm
from export.program.prepare import Prepared
from export.program.program import build_reference_program
from export.program.run import take_inputs
from export.tflite.build import UINT8_TO_INT8, Build
from export.tflite.file.flatbuffer import IDENTIFIER, read, read_metadata, tensors_by_name
from export.tflite.interface import SUFFIX
from export.tflite.litert_torch import describe_converted
from export.tflite.lower import build_graph
from export.tflite.options import WRITER
from export.tflite.runtime import schema
from export.tflite.weights.form import HYBRID_OPERATORS, Sparse, WeightForms
from export.tflite.weights.layout import Order, StoredLayout

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
        channels_last_io, codes_io: As in `Build`.
        forms: What its weights may be stored as. That it computes on codes behind floats (hybrid), which loosens the
            contract, is seen in its operators.
        backend: What wrote it.
    """

    path: Path
    data: bytes
    metadata: FileMetadata
    weights: dict[str, StoredLayout]
    codes: dict[str, Order]
    channels_last_io: bool
    codes_io: bool
    forms: WeightForms
    backend: str


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
    weights, codes = _read_orders(path, metadata.layout)
    for name, layout in weights.items():
        if math.prod(shapes.get(f"{name}{SUFFIX}", ())) != math.prod(layout.view):
            raise ExportError(f"{path}: its {KEY!r} metadata is damaged (no weight {name} of shape {layout.view})")
    for name, order in codes.items():
        if len(shapes.get(f"{name}{SUFFIX}", ())) != len(order):
            raise ExportError(f"{path}: its {KEY!r} metadata is damaged (no activation {name})")
    try:
        flags = {key: bool(metadata.layout[key]) for key in ("channels_last_io", "codes_io", "int4")}
        sparse: Sparse = "off" if metadata.layout["sparse"] == "off" else "auto"
        backend = str(metadata.layout["backend"])
        forms = WeightForms(sparse, flags.pop("int4"), _is_hybrid(content))
    except DAMAGED as error:
        raise ExportError(f"{path}: its {KEY!r} metadata is damaged ({error})") from error
    return StoredFile(path, data, metadata, weights, codes, forms=forms, backend=backend, **flags)


def _read_orders(path: Path, layout: Any) -> tuple[dict[str, StoredLayout], dict[str, Order]]:
    try:
        weights = {}
        for name, (view, order) in layout["weights"].items():
            weights[name] = StoredLayout(tuple(view), tuple(order), tuple(view[axis] for axis in order))
        return weights, {name: tuple(order) for name, order in layout["activations"].items()}
    except DAMAGED as error:
        raise ExportError(f"{path}: its {KEY!r} metadata is damaged ({error})") from error


def _is_hybrid(content: Any) -> bool:
    """Whether an operator of a file reads floats and codes of a weight."""
    fb = schema()
    subgraph = content.subgraphs[0]
    codes = (fb.TensorType.INT8, fb.TensorType.INT4)
    hybrid = {getattr(fb.BuiltinOperator, name) for name in HYBRID_OPERATORS}
    for operator in subgraph.operators:
        if content.operatorCodes[operator.opcodeIndex].builtinCode in hybrid:
            first, weight = (subgraph.tensors[number].type for number in operator.inputs[:2])
            if first == fb.TensorType.FLOAT32 and weight in codes:
                return True
    return False


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
        program, folded = rebuild_program(model, inputs, file.metadata), 0
    else:
        dynamic = file.backend == WRITER
        example = tuple(tensor[: 2 if dynamic else 1] for tensor in held)
        program = build_reference_program(model, example, encode(model), names=names, dynamic_batch=dynamic)
        folded = fold_batch_norm(program)
    if file.backend == WRITER:
        build = build_graph(program, channels_last_io=file.channels_last_io, codes_io=file.codes_io, forms=file.forms)
        build = replace(build, weights=file.weights, codes=file.codes)
    else:
        build = describe_converted(program, file.weights)
    return Prepared(program, encode(model), held, names, folded), build


def check_grids(file: StoredFile) -> tuple[WeightCheck, ...]:
    """Every quantized activation against the grid that the file's metadata gives it; what differs.

    A scale that is off by less than changes a code would else go unnoticed.
    """
    tensors = tensors_by_name(read(file.data))
    checks = []
    for name, grid in (file.metadata.activations or {}).items():
        label = f"{name}{SUFFIX}"
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
