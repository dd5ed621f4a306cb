"""Linear layers. Float: PyTorch's sums in another order. On codes: integer sums and one rounding, as convolutions.

Where a weight's codes are read although the input is floats, LiteRT quantizes the input by its smallest and largest
value: more exact than by its largest magnitude alone, which its own kernels would do (XNNPACK's never do).

Behind a flattened image the columns of the weight are put in the order in which the image lies in the file, channels
last, so that the image need not be transposed. Codes are moved, not changed.
"""

import math

import torch
from torch.fx import Node

from export.tflite.arguments import fill
from export.tflite.build import Build
from export.tflite.layer_operands import layer_operands
from export.tflite.registry import CannotLower, lowers
from export.tflite.weights.layout import StoredLayout, identity
from export.tflite.weights.tensor import is_plain

aten = torch.ops.aten


@lowers(aten.linear.default)
def lower_linear(build: Build, node: Node) -> None:
    """FULLY_CONNECTED of a matrix; canonicalization has made matrices of everything else."""
    x, weight, bias = fill(node, None, None, None)
    if len(build.shape(node)) != 2:
        raise CannotLower(f"it gives {len(build.shape(node))} dimensions, expected two")
    assert isinstance(weight, Node)
    assert isinstance(x, Node)
    outputs, inputs = build.shape(weight)
    columns = build.columns.get(x)
    if columns is None:
        layout = StoredLayout((outputs, inputs), (0, 1), (outputs, inputs))
    else:
        order = (0, *(axis for axis in columns.order if axis != 0))
        layout = StoredLayout((outputs, *columns.view[1:]), order, (outputs, inputs))
    integer = build.is_quantized(x) and is_plain(weight)
    target = build.target(node, integer=integer)
    integer = target.quantization is not None
    value = build.read(x) if integer else build.read_float(x)
    if columns is None:
        value = build.read(x, (0, 1)) if integer else build.read_float(x, (0, 1))
    operands = layer_operands(build, node, "FULLY_CONNECTED", value, weight, bias, layout, target)
    build.result(
        node,
        "FULLY_CONNECTED",
        operands.tensors,
        (0, 1),
        target=target,
        version=operands.version,
        fusedActivationFunction=target.activation,
        keepNumDims=False,
        asymmetricQuantizeInputs=operands.hybrid,
    )


def keeps_columns(build: Build, node: Node) -> bool:
    """Whether a flattened image may stay as it lies: only linear layers read it, each with a weight of its own."""
    return bool(node.users) and all(
        user.target is aten.linear.default
        and user.args[0] is node
        and isinstance(user.args[1], Node)
        and len(user.args[1].users) == 1
        for user in node.users
    )


def flatten_columns(build: Build, node: Node, x: Node) -> bool:
    """Flatten an image for linear layers without a transpose; whether it was done."""
    shape, flat = build.shape(x), build.shape(node)
    value = build.read(x)
    if len(flat) != 2 or flat[0] != shape[0] or value.order[0] != 0 or not keeps_columns(build, node):
        return False
    if build.flat_order(shape, value.order) == build.flat_order(shape, identity(len(shape))):
        return False  # nothing has moved
    build.columns[node] = StoredLayout(shape, value.order, (shape[0], math.prod(shape[1:])))
    open_batch = (0,) if 0 in build.open_axes(node) else ()
    build.set(node, build.reshape(value, flat, open_batch, node.name))
    return True
