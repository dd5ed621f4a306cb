"""A convolution or a linear layer reads its input, its weight and its bias, as floats or as codes.

On codes the bias is int32 on the grid of the sums, input scale times weight scale. Hybrid: floats and codes.
"""

from dataclasses import dataclass

import numpy as np
from torch.fx import Node

from export.program.names import codes_name
from export.tflite.builder.builder import Builder
from export.tflite.builder.destination import Destination
from export.tflite.builder.refusal import CannotLower
from export.tflite.builder.value import Value
from export.tflite.builder.weight_writer import is_plain
from export.tflite.file.graph import Tensor, TensorGrid
from export.tflite.file.operator_versions import layer_version
from export.tflite.operators.requantization import check_requantization
from export.tflite.weights.form import FLOATS, HYBRID_OPERATORS, Reader
from export.tflite.weights.layout import StoredLayout


@dataclass(frozen=True, eq=False)
class LayerOperands:
    """Holds `tensors` in the operator's order, and its `version`, None for the usual one."""

    tensors: tuple[Value | int, ...]
    version: int | None
    hybrid: bool


def layer_operands(
    build: Builder,
    node: Node,
    code: str,
    x: Value,
    weight: Node,
    bias: Node | None,
    layout: StoredLayout,
    target: Destination,
) -> LayerOperands:
    """Add the weight and the bias of a layer, and note it where it computes on codes.

    Args:
        node: The layer.
        code: Its operator.
        x: Its input as it is read, codes where `target` has a grid.
        weight: A dequantize of codes, or a float constant.
        bias: None for none, which LiteRT takes for zeros.
        layout: How the weight is to lie in the file.
        target: Where the result goes.

    Raises:
        CannotLower: A weight or a bias that has no form here.
        ExportError: Codes of the sums cannot be brought to the grid of the result.
    """
    name, outputs = build.program.name(node), build.program.shape(node)[1]
    integer = target.quantization is not None
    hybrid = not integer and build.weights.forms.hybrid and code in HYBRID_OPERATORS and is_plain(weight)
    reader = Reader(code, hybrid=hybrid) if integer or hybrid else FLOATS
    codes = build.weights.add(weight, layout, reader, 0 if hybrid else None)
    version = layer_version(code, build.writer.tensor(codes).form, hybrid=hybrid) if integer or hybrid else None
    if not integer:
        return LayerOperands((x, codes, _bias(build, bias, outputs)), version, hybrid)
    assert x.quantization is not None
    scale = x.quantization.scale * build.program.weight_scale(weight)
    check_requantization(name, scale, target.quantization)
    build.integer[name] = code
    return LayerOperands((x, codes, _integer_bias(build, bias, outputs, scale, name)), version, hybrid)


def _bias(build: Builder, node: Node | None, channels: int) -> int:
    value = np.zeros(channels, np.float32) if node is None else build.program.constant(node)
    if value is None:
        raise CannotLower("its bias depends on the input")
    return build.writer.number(value, "bias" if node is None else f"{build.program.weight_name(node)}")


def _integer_bias(build: Builder, node: Node | None, channels: int, scale: np.ndarray, layer: str) -> int:
    codes = np.zeros(channels, np.int32)
    if node is not None:
        found = build.program.constant(node.args[0])
        assert found is not None
        codes = found
    name, grid = build.writer.unused_name(codes_name(f"{layer}.bias")), TensorGrid(scale.reshape(-1))
    return build.writer.add_tensor(Tensor(name, codes.shape, codes.dtype, codes, grid))
