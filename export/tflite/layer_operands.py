"""What a convolution or a linear layer reads: its input, its weight and its bias, as floats or as codes.

On codes the bias is int32 on the grid of the sums, input scale times weight scale. Hybrid: floats and codes.
"""

from dataclasses import dataclass

import numpy as np
from torch.fx import Node

from export.tflite.build import Build
from export.tflite.file.graph import Quantization, Tensor
from export.tflite.file.operator_versions import weight_version
from export.tflite.registry import CannotLower
from export.tflite.requantization import check_requantization
from export.tflite.value import Target, Value
from export.tflite.weights.form import DEQUANTIZE, HYBRID, HYBRID_OPERATORS
from export.tflite.weights.layout import StoredLayout
from export.tflite.weights.tensor import is_plain, weight_scale, weight_tensor


@dataclass(frozen=True, eq=False)
class LayerOperands:
    """`tensors` in the operator's order; `version` of the operator, None for the usual one."""

    tensors: tuple[Value | int, ...]
    version: int | None
    hybrid: bool


def layer_operands(
    build: Build,
    node: Node,
    code: str,
    x: Value,
    weight: Node,
    bias: Node | None,
    layout: StoredLayout,
    target: Target,
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
    name, outputs = build.name(node), build.shape(node)[1]
    integer = target.quantization is not None
    hybrid = not integer and build.forms.hybrid and code in HYBRID_OPERATORS and is_plain(weight)
    reader = code if integer else f"{HYBRID}{code}" if hybrid else DEQUANTIZE
    codes = weight_tensor(build, weight, layout, reader, 0 if hybrid else None)
    version = weight_version(reader, build.graph.tensors[codes].form)
    if not integer:
        return LayerOperands((x, codes, _bias(build, bias, outputs)), version, hybrid)
    assert x.quantization is not None
    scale = x.quantization.scale * weight_scale(build, weight)
    check_requantization(name, scale, target.quantization)
    build.integer[name] = code
    return LayerOperands((x, codes, _integer_bias(build, bias, outputs, scale, name)), version, hybrid)


def _bias(build: Build, node: Node | None, channels: int) -> int:
    value = np.zeros(channels, np.float32) if node is None else build.constant(node)
    if value is None:
        raise CannotLower("its bias depends on the input")
    return build.number(value, "bias" if node is None else f"{build.weight_name(node)}")


def _integer_bias(build: Build, node: Node | None, channels: int, scale: np.ndarray, layer: str) -> int:
    codes = np.zeros(channels, np.int32)
    if node is not None:
        found = build.constant(node.args[0])
        assert found is not None
        codes = found
    name, grid = build.unused_name(f"{layer}.bias_quantized"), Quantization(scale.reshape(-1))
    return build.graph.add_tensor(Tensor(name, codes.shape, codes.dtype, codes, grid))
