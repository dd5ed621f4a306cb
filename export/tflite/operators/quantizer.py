"""Quantizers of activations give int8 codes here: 128 less than the uint8 ones, and so the zero point. Exact.

XNNPACK multiplies by the reciprocal of the scale where PyTorch divides: a value within float32's rounding of the middle
between two codes may get the other one.
"""

import torch
from torch.fx import Node

from export.program.names import codes_name, scope_name
from export.tflite.builder.builder import Builder
from export.tflite.builder.refusal import CannotLower
from export.tflite.operators.registry import lowers

codeq = torch.ops.codeq


@lowers(codeq.quantize.default)
def lower_quantize(build: Builder, node: Node) -> None:
    """Write QUANTIZE, where the operator before it does not give codes itself."""
    x = build.values.read_float(node.args[0])
    like = build.program.like(node, x.order, build.program.grid(node), name=codes_name(scope_name(node)))
    build.values.set(node, build.writer.operator("QUANTIZE", [x], like, x.order))


@lowers(codeq.dequantize.default)
def lower_dequantize(build: Builder, node: Node) -> None:
    """Pass the codes on: who reads them decides whether they become floats."""
    source = node.args[0]
    if source not in build.values:
        raise CannotLower("it reads codes that no quantizer makes")
    build.values.set(node, build.values.read(source))


@lowers(codeq.keep_float.default)
def lower_keep_float(build: Builder, node: Node) -> None:
    """Give floats to a layer that is to stay float."""
    build.values.set(node, build.values.read_float(node.args[0]))
