"""A reference program becomes a LiteRT graph, node by node, by the lowerings of export/tflite/operators/."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.fx import Node

import export.tflite.operators  # noqa: F401, fills the registry
from codeq.activations.moves import is_move
from codeq.graph.canonical import merge_equal
from codeq.graph.nodes import input_names, is_constant, operator_name, output_names
from export.errors import DeclinedError
from export.program.program import ReferenceProgram
from export.tflite.build import Build, quantize
from export.tflite.passes.quantize_first import quantize_first
from export.tflite.registry import LOWERINGS, CannotLower
from export.tflite.value import Value
from export.tflite.weights.form import WeightForms
from export.tflite.weights.layout import CHANNELS_LAST, Order, identity

QUANTIZERS = frozenset({torch.ops.codeq.quantize.default, torch.ops.codeq.dequantize.default})
COMPUTED = frozenset({torch.float32, torch.uint8})
"""Values and codes; of other types operators only move values."""
INPUTS = {torch.float32: np.float32, torch.int64: np.int64, torch.int32: np.int32}


def build_graph(
    program: ReferenceProgram,
    *,
    channels_last_io: bool = False,
    codes_io: bool = False,
    forms: WeightForms | None = None,
) -> Build:
    """Lower a whole program, which is brought into the form that the lowerings expect, in place.

    Args:
        program: Canonical, BatchNorms folded; activations quantized or not.
        channels_last_io, codes_io, forms: As in `Build`.

    Raises:
        DeclinedError: An operator without a lowering, or used in a way that has none; with its place in the network.
    """
    exported = program.exported
    prepare_lowering(program)
    build = Build(program, channels_last_io, codes_io, forms or WeightForms())
    _add_inputs(build, input_names(exported))
    for node in exported.graph.nodes:
        if node.op != "call_function" or node in build.values or node in build.absorbed or is_constant(node):
            continue
        if not isinstance(node.meta.get("val"), torch.Tensor | tuple | list):
            continue  # a size
        if not build.depends_on_input(node) and node.target not in QUANTIZERS:
            continue  # made of constants and the batch size: written where it is read
        lowering = LOWERINGS.get(node.target)
        try:
            dtype = getattr(node.meta["val"], "dtype", torch.float32)
            if dtype not in COMPUTED and not is_move(node):
                raise CannotLower(f"it computes {dtype}, expected torch.float32")
            if lowering is None:
                raise CannotLower("has no lowering to LiteRT; --backend litert-torch may have one, and export.onnx")
            lowering(build, node)
        except CannotLower as error:
            operator = operator_name(node) or str(node.target)
            raise DeclinedError(f"{build.name(node)}: {operator}: {error}") from error
    _add_outputs(build, output_names(exported))
    return build


def prepare_lowering(program: ReferenceProgram) -> None:
    """Bring a canonical program into the form that the lowerings expect, in place; a second time changes nothing."""
    merge_equal(program.exported)
    quantize_first(program)
    program.exported.graph.eliminate_dead_code()


def _add_inputs(build: Build, names: Sequence[str]) -> None:
    nodes = [node for node in build.program.exported.graph.nodes if node.op == "placeholder" and not is_constant(node)]
    for name, node in zip(names, nodes, strict=True):
        value = node.meta["val"]
        if value.dtype not in INPUTS:
            known = ", ".join(map(str, INPUTS))
            raise DeclinedError(f"input {name} is {value.dtype}; .tflite files are written for inputs of {known}")
        order = _io_order(build, node)
        quantizer = _first_quantizer(node) if build.codes_io else None
        grid = None if quantizer is None else build.grid(quantizer)
        tensor = build.like(node, order, grid, name=name if quantizer is None else build.codes_name(quantizer))
        if grid is None:
            tensor = dataclasses.replace(tensor, dtype=np.dtype(INPUTS[value.dtype]))
        build.tensor_names.add(tensor.name)
        number = build.graph.add_tensor(tensor)
        build.graph.inputs[name] = number
        build.values[node] = Value(number, order, grid)
        if quantizer is not None:
            build.set(quantizer, build.values[node])


def _first_quantizer(node: Node) -> Node | None:
    """The quantizer of an input, where nothing else reads the input."""
    quantizers = list(node.users)
    return quantizers[0] if len(quantizers) == 1 and quantizers[0].target is quantize else None


def _io_order(build: Build, node: Node) -> Order:
    rank = len(build.shape(node))
    return CHANNELS_LAST[rank] if build.channels_last_io and rank in CHANNELS_LAST else identity(rank)


def _add_outputs(build: Build, names: Sequence[str]) -> None:
    (results,) = build.program.exported.graph.output_node().args
    for name, node in zip(names, results, strict=True):
        order = _io_order(build, node)
        value = build.read(node, order) if build.codes_io else build.read_float(node, order)
        taken = value.tensor in build.graph.inputs.values() or value.tensor in build.graph.outputs.values()
        if taken or build.graph.tensors[value.tensor].data is not None:
            raise DeclinedError(f"output {name} is an input, a constant or another output; a file needs its own tensor")
        build.graph.outputs[name] = value.tensor


def describe_layout(build: Build) -> Mapping[str, Any]:
    """What a reader needs to find codes in the file: plain types."""
    return {
        "weights": {name: [layout.view, layout.order] for name, layout in build.weights.items()},
        "activations": dict(build.codes),
        "channels_last_io": build.channels_last_io,
        "codes_io": build.codes_io,
        "sparse": build.forms.sparse,
        "int4": build.forms.int4,
    }
