"""Weights in a file: codes in the form that was chosen, and the floats that LiteRT makes of them. Exact.

dequantize(codes, scale)         ->  DEQUANTIZE(int8 codes), or the codes alone for an integer kernel,
                                     behind a DENSIFY where their zeros are left out
dequantize(codes, scale, shift)  ->  values + shift * SIGN(values), values = DEQUANTIZE(int8 codes)
"""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.fx import Node

from codeq.graph.nodes import state_name
from export.program.fold_batch_norm import CHANNEL_AXIS
from export.tflite.file.graph import Quantization, Tensor
from export.tflite.file.operator_versions import INT4_DEQUANTIZE, PER_CHANNEL_DEQUANTIZE
from export.tflite.registry import CannotLower
from export.tflite.value import Value
from export.tflite.weights.form import DEQUANTIZE, DEQUANTIZE_FOR_OTHERS, is_exact
from export.tflite.weights.layout import StoredLayout, identity

if TYPE_CHECKING:
    from export.tflite.build import Build

dequantize = torch.ops.codeq.dequantize.default


def weight_tensor(
    build: "Build", node: Node, layout: StoredLayout, reader: str = DEQUANTIZE, channel_axis: int | None = None
) -> int:
    """The tensor of a weight.

    Args:
        node: A dequantize of codes, or a float constant.
        layout: How it is to lie in the file.
        reader: The operator that reads codes, as in `WeightForms.choose`; DEQUANTIZE gives floats.
        channel_axis: Of the output channels, as stored: a scale of the whole tensor is repeated for each. Some
            kernels that quantize their input themselves refuse one scale.

    Raises:
        CannotLower: It is computed from a quantized one, or its grid has no form here.
    """
    if node.target is not dequantize:
        if build.depends_on_codes(node):
            raise CannotLower("its weight is computed from a quantized one; quantize another one, or none")
        value = build.constant(node)
        if value is None:
            raise CannotLower("its weight depends on the input")
        return build.number(layout.store(value), f"{build.weight_name(node)}")
    codes = _codes(build, node, layout, reader, channel_axis)
    if reader != DEQUANTIZE:
        return codes.tensor
    key = ("float", codes.tensor)
    if key not in build.memo:
        build.memo[key] = _float_weight(build, node, layout, codes)
    return int(build.memo[key])


def weight_scale(build: "Build", node: Node) -> np.ndarray:
    """float32 `(1,)` or `(C,)`."""
    scale = build.constant(node.args[1])
    assert scale is not None
    return scale.reshape(-1)


def is_plain(weight: Node) -> bool:
    """Whether a weight is codes times a scale, without a shift."""
    return weight.target is dequantize and weight.args[2] is None


def is_read_by_layers(weight: Node) -> bool:
    """Whether a weight is read by convolutions and linear layers alone, and without a shift in between."""
    return is_plain(weight) and all(layer.target in CHANNEL_AXIS and layer.args[1] is weight for layer in weight.users)


def _codes(build: "Build", node: Node, layout: StoredLayout, reader: str, channel_axis: int | None) -> Value:
    state = state_name(build.program.exported, node.args[0])  # type: ignore[arg-type]
    assert state is not None
    record = build.program.weights[state]
    key = ("weight", state, layout)
    if key not in build.memo:
        if record.name in build.weights:
            raise CannotLower(f"{record.name} is used by two layers that want it in different orders")
        axis = record.encoding.axis
        grid = Quantization(weight_scale(build, node), 0, 0 if axis is None else layout.order.index(axis))
        codes = layout.store(record.encoding.codes.numpy())
        if channel_axis is not None and grid.scale.size == 1:
            grid = Quantization(np.repeat(grid.scale, codes.shape[channel_axis]), 0, channel_axis)
        layers_only = is_read_by_layers(node)
        if reader == DEQUANTIZE and not layers_only:
            reader = DEQUANTIZE_FOR_OTHERS
        stored = build.forms.choose(codes, grid.scale.size, reader, layers_only=layers_only)
        name = build.unused_name(f"{record.name}_quantized")
        tensor = Tensor(name, codes.shape, codes.dtype, codes, grid, form=stored.form)
        value = Value(build.graph.add_tensor(tensor), identity(codes.ndim), grid)
        if stored.form == "csr":
            like = dataclasses.replace(tensor, data=None, form="dense")
            value = build.operator("DENSIFY", [value], like, value.order, label="dense")
        build.memo[key] = value
        build.weights[record.name] = layout
        build.stored[record.name] = stored
    elif not is_exact(build.stored[record.name].form, reader):
        first = build.stored[record.name]
        raise CannotLower(f"{record.name} is stored as {first.form} for {first.reader}, which {reader} cannot read")
    made: Value = build.memo[key]
    return made


def _float_weight(build: "Build", node: Node, layout: StoredLayout, codes: Value) -> int:
    name = build.weight_name(node)
    stored = Tensor(name, layout.shape, np.dtype(np.float32))
    assert codes.quantization is not None
    version = PER_CHANNEL_DEQUANTIZE if codes.quantization.scale.size > 1 else None
    if build.graph.tensors[codes.tensor].form == "int4":
        version = INT4_DEQUANTIZE
    order = identity(len(layout.shape))
    shift = build.constant(node.args[2])
    if shift is None:
        return build.operator("DEQUANTIZE", [codes], stored, order, version=version).tensor
    values = build.operator("DEQUANTIZE", [codes], _named(stored, f"{name}/scaled"), order, version=version)
    if shift.size > 1:
        # The channel axis comes first where the stored shape has joined others.
        axis = int(node.args[3])  # type: ignore[arg-type]
        place = layout.order.index(axis) if len(layout.shape) == len(layout.view) else 0
        shift = shift.reshape([-1 if other == place else 1 for other in range(len(layout.shape))])
    sign = build.operator("SIGN", [values], _named(stored, f"{name}/sign"), order)
    steps: list[Value | int] = [sign, build.number(np.ascontiguousarray(shift), f"{name}/shift")]
    product = build.operator("MUL", steps, _named(stored, f"{name}/shifted"), order)
    return build.operator("ADD", [values, product], stored, order).tensor


def _named(tensor: Tensor, name: str) -> Tensor:
    return dataclasses.replace(tensor, name=name)
