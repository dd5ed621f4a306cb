"""Quantizers of activations. uint8 codes become int8 ones: 128 less, and so the zero point; exact.

XNNPACK multiplies by the reciprocal of the scale where PyTorch divides: a value within float32's rounding of the middle
between two codes may get the other one.
"""

import torch
from torch.fx import Node

from export.tflite.build import Build
from export.tflite.registry import CannotLower, lowers

codeq = torch.ops.codeq


@lowers(codeq.quantize.default)
def lower_quantize(build: Build, node: Node) -> None:
    """QUANTIZE, where the operator before it does not give codes itself."""
    x = build.read_float(node.args[0])
    like = build.like(node, x.order, build.grid(node), name=build.codes_name(node))
    build.set(node, build.operator("QUANTIZE", [x], like, x.order))


@lowers(codeq.dequantize.default)
def lower_dequantize(build: Build, node: Node) -> None:
    """The codes themselves: who reads them decides whether they become floats."""
    source = node.args[0]
    if source not in build.values:
        raise CannotLower("it reads codes that no quantizer makes")
    build.values[node] = build.read(source)


@lowers(codeq.keep_float.default)
def lower_keep_float(build: Build, node: Node) -> None:
    """Floats for a layer that is to stay float."""
    build.values[node] = build.read_float(node.args[0])
