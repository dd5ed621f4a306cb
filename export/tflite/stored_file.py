"""This module reads a .tflite file of ours as it was written: its bytes, what it says about itself, and where its
tensors lie.

A check takes these from the file; nothing is taken from the export that wrote it.
"""

import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from codeq.toolkit.files import check_ordinary
from export.errors import ExportError
from export.metadata import KEY, FileMetadata, parse_metadata, with_mismatch
from export.parity.checks import WeightCheck
from export.program.codes import UINT8_TO_INT8
from export.program.names import codes_name
from export.tflite.file.flatbuffer import read_metadata, tensors_by_name, text_of, with_metadata
from export.tflite.file.identifier import IDENTIFIER
from export.tflite.file.structure import MOST_BYTES
from export.tflite.file.verify_file import verify_file
from export.tflite.options import MICRO, WRITER
from export.tflite.runtime import schema
from export.tflite.trusted import trust
from export.tflite.weights.form import HYBRID_OPERATORS
from export.tflite.weights.layout import Order, StoredLayout

SHAPES = frozenset({"RESHAPE", "STRIDED_SLICE", "TRANSPOSE"})
"""Operators that only give values another shape or order, or cut off the border of a transposed convolution."""
IMAGE_OPERANDS = {"TRANSPOSE_CONV": 2}
"""Position of the operand that is computed where it is not the first."""
DAMAGED = (struct.error, IndexError, KeyError, TypeError, ValueError, AttributeError, OverflowError)
"""What reading a flatbuffer raises whose offsets lead nowhere, and JSON of another form."""


LITERT = "litert"
"""The `target` in the metadata of .tflite files."""


@dataclass(frozen=True, eq=False)
class TfliteFile:
    """Describes a file as it was read.

    Attributes:
        path: Where it is.
        data: Its bytes.
        content: The same as the schema's `ModelT`.
        metadata: What it says about itself.
        inputs, outputs: Their names, in the network's order.
        weights: How each quantized weight lies in it, by name.
        codes: The order of axes of each quantized activation, by name.
        operators: The schema's names of its operators, in order.
        kernels: The operator that makes each of them on codes, by name; missing where it computes on floats.
        channels_last_io: Inputs and outputs of three and four dimensions have their channels last.
        codes_io: Inputs and outputs are codes where the network quantizes them.
        approximate: An operator computes on floats and codes (hybrid), which loosens the contract.
        writer: What wrote it.
    """

    path: Path
    data: bytes
    content: Any
    metadata: FileMetadata
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: dict[str, StoredLayout]
    codes: dict[str, Order]
    operators: tuple[str, ...]
    kernels: dict[str, str]
    channels_last_io: bool
    codes_io: bool
    approximate: bool
    writer: str

    @property
    def cpu(self) -> str | None:
        """Say "tflm" of a file for microcontrollers."""
        return "tflm" if self.metadata.options.get("target") in MICRO else None

    @property
    def fixed_batch(self) -> int | None:
        """Return the batch of 1 that litert-torch converts to; None for others, which the interpreter resizes."""
        return None if self.writer == WRITER else 1


def read_bytes(path: Path) -> bytes:
    """Read the bytes of a .tflite file, whoever wrote it.

    Raises:
        ExportError: Missing, or no .tflite file.
    """
    if not path.exists():
        raise ExportError(f"{path}: no such file")
    check_ordinary(path, "a .tflite file", ExportError)
    try:
        with path.open("rb") as file:
            start = file.read(8)
            if start[4:] != IDENTIFIER:
                raise ExportError(f"{path}: is not a .tflite file")
            if path.stat().st_size > MOST_BYTES:
                raise ExportError(f"{path}: takes more than {MOST_BYTES:,} bytes, where a .tflite file ends")
            return start + file.read()
    except OSError as error:
        raise ExportError(f"{path}: cannot be read ({error.strerror})") from error


def read_file(path: Path) -> TfliteFile:
    """Read a file of `export.tflite`.

    Raises:
        ExportError: Missing, damaged, or not one of ours.
    """
    data = read_bytes(path)
    content = verify_file(path, data)
    try:
        tensors = {name: tensor for name, (_, tensor) in tensors_by_name(content).items()}
        shapes = {name: () if tensor.shape is None else tuple(tensor.shape) for name, tensor in tensors.items()}
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
        if codes_name(name) not in shapes or math.prod(shapes[codes_name(name)]) != math.prod(layout.view):
            raise ExportError(f"{path}: its {KEY!r} metadata is damaged (no weight {name} of shape {layout.view})")
        grid = tensors[codes_name(name)].quantization
        if grid is None or grid.scale is None:
            raise ExportError(f"{path}: is damaged: the codes of {name} have no scale; export it again")
    for name, order in codes.items():
        if codes_name(name) not in shapes or sorted(order) != list(range(len(shapes[codes_name(name)]))):
            raise ExportError(f"{path}: its {KEY!r} metadata is damaged (no activation {name})")
    try:
        channels_last_io, codes_io = (bool(metadata.layout[key]) for key in ("channels_last_io", "codes_io"))
        writer = str(metadata.layout["backend"])
        inputs, outputs = _interface(content)
        operators = _operators(content)
    except DAMAGED as error:
        raise ExportError(f"{path}: its {KEY!r} metadata is damaged ({error})") from error
    return TfliteFile(
        path=path,
        data=data,
        content=content,
        metadata=metadata,
        inputs=inputs,
        outputs=outputs,
        weights=weights,
        codes=codes,
        operators=tuple(operator.code for operator in operators),
        kernels=_kernels(operators, codes),
        channels_last_io=channels_last_io,
        codes_io=codes_io,
        approximate=any(operator.is_hybrid for operator in operators),
        writer=writer,
    )


def record_mismatch(path: Path, failure: str) -> None:
    """Write into a file's metadata that parity does not hold; what it computes stays as it is."""
    data = path.read_bytes()
    marked = with_metadata(data, KEY, lambda text: with_mismatch(text, failure))
    path.write_bytes(marked)
    trust(marked)


def _read_orders(path: Path, layout: Any) -> tuple[dict[str, StoredLayout], dict[str, Order]]:
    try:
        weights = {}
        for name, (view, order, *mirrored) in layout["weights"].items():
            shape = tuple(view[axis] for axis in order)
            weights[name] = StoredLayout(tuple(view), tuple(order), shape, tuple(*mirrored))
        return weights, {name: tuple(order) for name, order in layout["activations"].items()}
    except DAMAGED as error:
        raise ExportError(f"{path}: its {KEY!r} metadata is damaged ({error})") from error


@dataclass(frozen=True)
class _Operator:
    """One operator of a file: the schema's name, its computed operand and its result, and what the operands are."""

    code: str
    first: str
    output: str
    reads_codes: bool
    is_hybrid: bool


def _interface(content: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of inputs and outputs, by the file's signature, in the order of its tensors."""
    subgraph, signature = content.subgraphs[0], content.signatureDefs[0]
    names = []
    for numbers, entries in ((subgraph.inputs, signature.inputs), (subgraph.outputs, signature.outputs)):
        by_number = {int(entry.tensorIndex): text_of(entry.name) for entry in entries}
        names.append(tuple(by_number[int(number)] for number in numbers))
    return names[0], names[1]


def _operators(content: Any) -> list[_Operator]:
    fb = schema()
    names = {value: name for name, value in vars(fb.BuiltinOperator).items() if not name.startswith("_")}
    codes = (fb.TensorType.INT8, fb.TensorType.INT4)
    hybrid = {getattr(fb.BuiltinOperator, name) for name in HYBRID_OPERATORS}
    subgraph = content.subgraphs[0]
    found = []
    for operator in subgraph.operators:
        kind = content.operatorCodes[operator.opcodeIndex].builtinCode
        tensors = [subgraph.tensors[number] for number in operator.inputs if number >= 0]
        operands = [tensor.type for tensor in tensors]
        image = IMAGE_OPERANDS.get(names[kind], 0)
        found.append(
            _Operator(
                names[kind],
                text_of(tensors[image].name) if tensors else "",
                text_of(subgraph.tensors[operator.outputs[0]].name),
                reads_codes=operands[image : image + 1] == [fb.TensorType.INT8],
                is_hybrid=kind in hybrid and operands[0] == fb.TensorType.FLOAT32 and operands[1] in codes,
            )
        )
    return found


def _kernels(operators: Iterable[_Operator], codes: Iterable[str]) -> dict[str, str]:
    """The operator that computes each quantized activation on codes, behind those that only give it another shape."""
    makers = {operator.output: operator for operator in operators if operator.reads_codes}
    found = {}
    for name in codes:
        maker = makers.get(codes_name(name))
        while maker is not None and maker.code in SHAPES and maker.first in makers:
            maker = makers[maker.first]
        if maker is not None:
            found[name] = maker.code
    return found


def check_grids(file: TfliteFile) -> tuple[WeightCheck, ...]:
    """Hold every quantized activation to the grid that the file's metadata gives it; what differs.

    A scale that is off by less than changes a code would else go unnoticed.
    """
    tensors = tensors_by_name(file.content)
    checks = []
    for name, grid in (file.metadata.activations or {}).items():
        label = codes_name(name)
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
