"""Linear layers sum floats in another order than PyTorch; codes they sum as integers and round once.

Where a weight's codes are read although the input is floats, LiteRT quantizes the input by its smallest and largest
value: more exact than by its largest magnitude alone, which its own kernels would do (XNNPACK's never do).

Behind a flattened image the columns of the weight are put in the order in which the image lies in the file, channels
last, so that the image need not be transposed. Codes are moved, not changed.
"""

from dataclasses import replace

import torch
from torch.fx import Node

from export.program.arguments import fill
from export.tflite.builder.builder import Builder
from export.tflite.builder.destination import find_destination
from export.tflite.builder.refusal import CannotLower
from export.tflite.builder.value import JoinedAxes
from export.tflite.builder.weight_writer import is_plain
from export.tflite.operators.layer_operands import layer_operands
from export.tflite.operators.registry import lowers
from export.tflite.weights.layout import StoredLayout, flat_order, identity

aten = torch.ops.aten


@lowers(aten.linear.default)
def lower_linear(build: Builder, node: Node) -> None:
    """Write FULLY_CONNECTED of a matrix; canonicalization has made matrices of everything else."""
    x, weight, bias = fill(node, None, None, None)
    if len(build.program.shape(node)) != 2:
        raise CannotLower(f"it gives {len(build.program.shape(node))} dimensions, expected two")
    assert isinstance(weight, Node)
    assert isinstance(x, Node)
    outputs, inputs = build.program.shape(weight)
    integer = build.values.are_codes(x) and is_plain(weight)
    target = find_destination(build.program, node, integer=integer)
    integer = target.quantization is not None
    value = build.values.read(x, (0, 1)) if integer else build.values.read_float(x, (0, 1))
    columns = value.joined or JoinedAxes((inputs,), (0,))
    layout = StoredLayout((outputs, *columns.sizes), (0, *columns.behind(1)), (outputs, inputs))
    operands = layer_operands(build, node, "FULLY_CONNECTED", value, weight, bias, layout, target)
    build.values.result(
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


def keeps_columns(build: Builder, node: Node) -> bool:
    """Tell whether a flattened image may stay as it lies: only linear layers read it, each with a weight of its own."""
    return bool(node.users) and all(
        user.target is aten.linear.default
        and user.args[0] is node
        and isinstance(user.args[1], Node)
        and len(user.args[1].users) == 1
        for user in node.users
    )


def flatten_columns(build: Builder, node: Node, x: Node) -> bool:
    """Flatten an image for linear layers without a transpose; whether it was done."""
    shape, flat = build.program.shape(x), build.program.shape(node)
    value = build.values.read(x)
    if len(flat) != 2 or flat[0] != shape[0] or value.order[0] != 0 or not keeps_columns(build, node):
        return False
    if flat_order(shape, value.order) == flat_order(shape, identity(len(shape))):
        return False  # nothing has moved
    open_batch = (0,) if 0 in build.program.open_axes(node) else ()
    columns = JoinedAxes(shape[1:], tuple(axis - 1 for axis in value.order[1:]))
    flattened = build.writer.reshape(value, flat, open_batch, node.name)
    build.values.set(node, replace(flattened, joined=columns))
    return True
