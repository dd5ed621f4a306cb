"""This module makes a .tflite file in another way: litert-torch converts the float network, and our codes replace its
weights.

    conv2d(x, scale * codes)  ->  litert-torch  ->  CONV_2D(x, float32)  ->  CONV_2D(x, DEQUANTIZE(int8 codes))

For operators that have no lowering here. Each weight's float values are looked for among the converted file's
constants, in any order of axes, bit for bit; where one is not found, as where the converter folded the gain of a norm
into it, nothing is written. Exact for weights; what the converter makes of the rest is held by the parity check, at the
one batch size that it is converted for.
"""

import itertools
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx import Node

from codeq.errors import first_line
from codeq.graph.nodes import input_names, output_names, replace_node, state_name
from codeq.toolkit.extras import install_hint
from codeq.toolkit.quiet import quiet_torch, silence
from export.errors import ExportError
from export.program.names import codes_name
from export.program.plain_names import plain_names
from export.program.program import ReferenceProgram, WeightRecord, add_tensor, constant_value, remove_unused_tensors
from export.tflite.build import Build
from export.tflite.file.edit import ModelEditor
from export.tflite.file.graph import Graph, TensorGrid
from export.tflite.file.graph import Tensor as FileTensor
from export.tflite.file.operator_versions import PER_CHANNEL_DEQUANTIZE
from export.tflite.weights.form import FLOATS, StoredForm
from export.tflite.weights.layout import StoredLayout

PACKAGE = "litert-torch"


@dataclass(frozen=True, eq=False)
class Converted:
    """Describes a converted file with our codes. `build` has no graph but its outputs: what the parity check asks
    for."""

    build: Build
    editor: ModelEditor


def convert_with_codes(program: ReferenceProgram, example: tuple[Tensor, ...]) -> Converted:
    """Convert a program and put its codes in.

    Args:
        program: Traced at the example's batch size; BatchNorms folded. Its weights become floats, in place.
        example: Inputs.

    Raises:
        ExportError: See `convert` and `put_codes`.
    """
    editor, layouts = put_codes(convert(program, example), program)
    return Converted(describe_converted(program, layouts), editor)


def describe_converted(program: ReferenceProgram, layouts: dict[str, StoredLayout]) -> Build:
    """Say what the parity check of a converted file needs to know of it."""
    graph = Graph()
    for name in output_names(program.exported):
        graph.outputs[name] = graph.add_tensor(FileTensor(name, (), np.dtype(np.float32)))
    stored = {}
    for record in program.weights.values():
        if record.name in layouts:
            size_bytes = record.encoding.codes.numel() + 4 * record.encoding.scale.numel()
            stored[record.name] = StoredForm("dense", FLOATS, size_bytes)
    return Build(graph, weights=layouts, stored=stored)


def convert(program: ReferenceProgram, example: tuple[Tensor, ...]) -> bytes:
    """Convert a program to the float file that litert-torch makes of it.

    Args:
        program: Traced at the example's batch size; BatchNorms folded. Its weights become floats, in place.
        example: Inputs.

    Raises:
        ExportError: litert-torch is not installed, or cannot convert the network.
    """
    with silence():
        converter = _import()
    _decode_weights(program)
    with plain_names(program.exported):
        module = program.exported.module()
    for part in module.modules():
        part.training = False
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "float.tflite"
        try:
            with silence(), quiet_torch():
                converter.convert(module, example).export(str(path))
        except Exception as error:  # its compiler raises what it likes
            raise ExportError(f"litert-torch cannot convert the network: {first_line(error)}") from error
        return path.read_bytes()


def put_codes(data: bytes, program: ReferenceProgram) -> tuple[ModelEditor, dict[str, StoredLayout]]:
    """Replace the float weights of a converted file by codes, each behind a DEQUANTIZE.

    Args:
        data: The file; its inputs and outputs get the program's names.
        program: What it was converted from; `weights` as they are stored.

    Returns:
        The changed file, and how each weight lies in it.

    Raises:
        ExportError: A weight that the network uses is not found.
    """
    editor = ModelEditor(data)
    editor.rename(input_names(program.exported), output_names(program.exported))
    constants = editor.constants()
    layouts: dict[str, StoredLayout] = {}
    for record in program.weights.values():
        if record.name not in program.exported.state_dict:
            continue  # the network does not use it
        values = record.encoding.dequantize().numpy()
        found = next(
            ((tensor, layout) for tensor, constant in constants.items() for layout in _layouts(values, constant)), None
        )
        if found is None:
            raise ExportError(
                f"{record.name}: no constant of the file that litert-torch made equals it in any order of axes; the "
                "converter folds factors and gains of norms into weights; use this package's writer (no --backend)"
            )
        tensor, layout = found
        del constants[tensor]
        layouts[record.name] = layout
        _store(editor, tensor, record, layout)
    return editor, layouts


def _import() -> Any:
    try:
        return import_module("litert_torch")
    except ImportError as error:
        raise ExportError(
            f"--backend litert-torch needs the package {PACKAGE}, which is not installed ({first_line(error)}): "
            f"{install_hint('tflite-torch')}"
        ) from error


def _decode_weights(program: ReferenceProgram) -> None:
    """Put each weight's float values in the place of its codes and scale."""
    floats: dict[str, Node] = {}
    for node in list(program.exported.graph.nodes):
        if node.target is not torch.ops.codeq.dequantize.default:
            continue
        record = program.weights[state_name(program.exported, node.args[0]) or ""]
        if record.name not in floats:
            value = constant_value(program, node)
            assert value is not None
            floats[record.name] = add_tensor(program, record.name, value)
        replace_node(program.exported, node, floats[record.name])
    remove_unused_tensors(program)


def _layouts(values: np.ndarray, constant: np.ndarray) -> Iterator[StoredLayout]:
    """How a constant of a file holds a weight, if it does: an order of axes, axes of size 1 anywhere."""
    if constant.dtype != np.float32 or constant.size != values.size:
        return
    wide = [axis for axis, size in enumerate(values.shape) if size != 1]
    narrow = [axis for axis, size in enumerate(values.shape) if size == 1]
    stored = tuple(size for size in constant.shape if size != 1)
    for order in itertools.permutations(wide):
        if tuple(values.shape[axis] for axis in order) != stored:
            continue
        layout = StoredLayout(values.shape, (*narrow, *order), constant.shape)
        if np.array_equal(layout.store(values), constant):
            yield layout


def _store(editor: ModelEditor, tensor: int, record: WeightRecord, layout: StoredLayout) -> None:
    """Codes and their DEQUANTIZE in front of everything; on the paper's grid what adds the shift, too."""
    encoding, name = record.encoding, record.name
    codes = layout.store(encoding.codes.numpy())
    axis = 0 if encoding.axis is None else _stored_axis(layout, encoding.axis)
    scale = encoding.scale.reshape(-1).numpy()
    grid = TensorGrid(scale, 0, axis)
    version = PER_CHANNEL_DEQUANTIZE if scale.size > 1 else 2
    stored = editor.add_tensor(codes_name(name), codes.shape, codes, grid)
    editor.rename_tensor(tensor, name)
    if encoding.shift is None:
        editor.compute("DEQUANTIZE", version, [stored], tensor)
        return
    shift = encoding.shift.reshape(-1).numpy()
    if shift.size > 1:
        shift = shift.reshape([-1 if place == axis else 1 for place in range(codes.ndim)])
    values, sign, product = (editor.add_tensor(f"{name}/{part}", codes.shape) for part in ("scaled", "sign", "shifted"))
    number = editor.add_tensor(f"{name}/shift", shift.shape, np.ascontiguousarray(shift))
    editor.compute("DEQUANTIZE", version, [stored], values)
    editor.compute("SIGN", 1, [values], sign)
    editor.compute("MUL", 1, [sign, number], product)
    editor.compute("ADD", 1, [values, product], tensor)


def _stored_axis(layout: StoredLayout, axis: int) -> int:
    """Where an axis of the weight lies in the stored shape, which has the same axes but for those of size 1.

    Raises:
        ExportError: The axis has size 1, so that every place would do and none is known.
    """
    wide = [other for other in layout.order if layout.view[other] != 1]
    if axis not in wide:
        return 0
    places = [place for place, size in enumerate(layout.shape) if size != 1]
    assert len(places) == len(wide)
    assert math.prod(layout.shape) == math.prod(layout.view)
    return places[wide.index(axis)]
