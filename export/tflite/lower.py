"""A reference program becomes a LiteRT graph, node by node, by the lowerings of export/tflite/operators/."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.fx import Graph, Node

from codeq.activations.moves import is_move
from codeq.graph.nodes import depends_on_input, input_names, is_constant, operator_name, output_names
from codeq.graph.source_line import source_line
from export.errors import DeclinedError
from export.program.names import codes_name, scope_name
from export.program.program import ReferenceProgram
from export.tflite.build import Build
from export.tflite.builder.builder import Builder
from export.tflite.builder.program_reader import dequantize, is_size, quantize
from export.tflite.builder.refusal import CannotLower
from export.tflite.builder.value import Value
from export.tflite.missing import REASONS
from export.tflite.operators import families  # noqa: F401, fills the registry
from export.tflite.operators.registry import LOWERINGS, OF_ANY_TYPE
from export.tflite.passes.bring_into_form import bring_into_form
from export.tflite.weights.form import WeightForms
from export.tflite.weights.layout import CHANNELS_LAST, Order, identity

COMPUTED = frozenset({torch.float32, torch.uint8})
"""Values and codes; of other types operators only move values."""
INPUTS = {
    torch.float32: np.float32,
    torch.int64: np.int64,
    torch.int32: np.int32,
    torch.uint8: np.uint8,
    torch.bool: np.bool_,
}


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
    bring_into_form(program)
    exported = program.exported
    build = Builder(program, forms or WeightForms())
    _add_inputs(build, exported.graph, input_names(exported), channels_last=channels_last_io, codes=codes_io)
    for node in exported.graph.nodes:
        if _has_operator(build, node):
            _lower(build, node)
    _add_outputs(build, exported.graph, output_names(exported), channels_last=channels_last_io, codes=codes_io)
    return build.finish(channels_last_io=channels_last_io, codes_io=codes_io)


WAY_OUT = "export.onnx may take it"
"""Refusals of an operator's arguments end with it: tests/export/test_cases.py follows the advice."""


def _has_operator(build: Builder, node: Node) -> bool:
    """Tell whether a node is lowered: not what is a constant, a number, or done by another operator."""
    if node.op != "call_function" or is_constant(node) or is_size(node) or build.values.is_done(node):
        return False
    # What is made of constants and the batch size is written where it is read.
    return depends_on_input(node) or node.target in (quantize, dequantize)


def _lower(build: Builder, node: Node) -> None:
    lowering = LOWERINGS.get(node.target)
    try:
        dtype = getattr(node.meta["val"], "dtype", torch.float32)
        if dtype not in COMPUTED and node.target not in OF_ANY_TYPE and not is_move(node):
            raise CannotLower(f"it computes {dtype}, expected torch.float32")
        if lowering is None:
            reason = REASONS.get(operator_name(node))
            why = f" ({reason})" if reason else ""
            raise CannotLower(f"has no lowering to LiteRT{why}; --backend litert-torch may, and {WAY_OUT}")
        lowering(build, node)
    except CannotLower as error:
        operator = operator_name(node) or str(node.target)
        reason = str(error) if WAY_OUT in str(error) else f"{error}; {WAY_OUT}"
        line = source_line(node)
        place = f" ({line})" if line else ""
        raise DeclinedError(f"{build.program.name(node)}: {operator}: {reason}{place}") from error


def _add_inputs(build: Builder, graph: Graph, names: Sequence[str], *, channels_last: bool, codes: bool) -> None:
    nodes = [node for node in graph.nodes if node.op == "placeholder" and not is_constant(node)]
    for name, node in zip(names, nodes, strict=True):
        dtype = node.meta["val"].dtype
        if dtype not in INPUTS:
            known = ", ".join(map(str, INPUTS))
            raise DeclinedError(f"input {name} is {dtype}; .tflite files are written for inputs of {known}")
        order = _io_order(build, node, channels_last=channels_last)
        quantizer = _first_quantizer(node) if codes else None
        if quantizer is None:
            grid = None
            tensor = replace(build.program.like(node, order, name=name), dtype=np.dtype(INPUTS[dtype]))
        else:
            grid = build.program.grid(quantizer)
            tensor = build.program.like(node, order, grid, name=codes_name(scope_name(quantizer)))
        value = Value(build.writer.add_input(name, tensor), order, grid)
        build.values.set(node, value)
        if quantizer is not None:
            build.values.set(quantizer, value)


def _first_quantizer(node: Node) -> Node | None:
    """Find the quantizer of an input, where nothing else reads the input."""
    quantizers = list(node.users)
    return quantizers[0] if len(quantizers) == 1 and quantizers[0].target is quantize else None


def _io_order(build: Builder, node: Node, *, channels_last: bool) -> Order:
    rank = len(build.program.shape(node))
    return CHANNELS_LAST[rank] if channels_last and rank in CHANNELS_LAST else identity(rank)


def _add_outputs(build: Builder, graph: Graph, names: Sequence[str], *, channels_last: bool, codes: bool) -> None:
    (results,) = graph.output_node().args
    made = build.writer.graph
    for name, node in zip(names, results, strict=True):  # type: ignore[arg-type]
        order = _io_order(build, node, channels_last=channels_last)
        as_is = codes or node.meta["val"].dtype is not torch.float32
        value = build.values.read(node, order) if as_is else build.values.read_float(node, order)
        taken = value.tensor in made.inputs.values() or value.tensor in made.outputs.values()
        if taken or build.writer.tensor(value).data is not None:
            raise DeclinedError(f"output {name} is an input, a constant or another output; a file needs its own tensor")
        made.outputs[name] = value.tensor


def describe_layout(build: Build) -> Mapping[str, Any]:
    """Describe what a reader needs to find codes in the file, in plain types."""
    return {
        "weights": {
            name: [layout.view, layout.order, *([layout.mirrored] if layout.mirrored else [])]
            for name, layout in build.weights.items()
        },
        "activations": dict(build.codes),
        "channels_last_io": build.channels_last_io,
        "codes_io": build.codes_io,
        "sparse": build.forms.sparse,
        "int4": build.forms.int4,
    }
