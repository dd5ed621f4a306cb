"""This module works out the sizes of what a file computes from constants, before anything of it is computed.

Those are the decoders of weights, which onnxruntime runs when it creates a session. Shapes follow from stored sizes and
attributes alone, never from the data; so each operator that decoders use has a rule here that gives the exact shape,
and small integer constants are carried along where they are shapes themselves. Other operators, which a network may
have between constants of its own, go by onnx's inference for a single node.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, numpy_helper

MAX_VALUES = 64
"""Elements of a constant that may be a shape, or the limits of a slice."""
MAX_RANK = 16
SHAPES = (TensorProto.INT32, TensorProto.INT64)
"""Types of shapes and axes."""
ITEM_BITS: Mapping[int, int] = {
    TensorProto.FLOAT: 32,
    TensorProto.DOUBLE: 64,
    TensorProto.FLOAT16: 16,
    TensorProto.BFLOAT16: 16,
    TensorProto.BOOL: 8,
    TensorProto.INT2: 2,
    TensorProto.UINT2: 2,
    TensorProto.INT4: 4,
    TensorProto.UINT4: 4,
    TensorProto.INT8: 8,
    TensorProto.UINT8: 8,
    TensorProto.INT16: 16,
    TensorProto.UINT16: 16,
    TensorProto.INT32: 32,
    TensorProto.UINT32: 32,
    TensorProto.INT64: 64,
    TensorProto.UINT64: 64,
}
"""Bits of one element, of the types that files of ours have."""


class UnknownSizeError(Exception):
    """Raised with the reason where the size of a result cannot be told."""


@dataclass(frozen=True)
class Sized:
    """Holds what is known of a constant: its shape, its type, and its elements where they may be a shape."""

    shape: tuple[int, ...]
    data_type: int
    values: np.ndarray | None = None

    def __post_init__(self) -> None:
        if len(self.shape) > MAX_RANK or any(size < 0 for size in self.shape):
            raise UnknownSizeError(f"it has the shape {list(self.shape)[:MAX_RANK]}")

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Count the bytes in memory; a type that is not known counts eight."""
        return -(-self.numel * ITEM_BITS.get(self.data_type, 64) // 8)

    def as_integers(self) -> tuple[int, ...]:
        """Return the elements as a shape or a list of axes.

        Raises:
            UnknownSizeError: They are not known, or are no integers.
        """
        if self.values is None or self.values.dtype.kind not in "iu":
            raise UnknownSizeError("it depends on values that are computed")
        return tuple(map(int, self.values.reshape(-1)))


def sized_tensor(tensor: TensorProto) -> Sized:
    """Describe a tensor; external data is not read."""
    shape = tuple(tensor.dims)
    small = all(0 <= size <= MAX_VALUES for size in shape) and math.prod(shape) <= MAX_VALUES
    if small and tensor.data_location != TensorProto.EXTERNAL and tensor.data_type in (
        TensorProto.INT8, TensorProto.UINT8, TensorProto.INT32, TensorProto.INT64
    ):  # fmt: skip
        try:
            return Sized(shape, tensor.data_type, numpy_helper.to_array(tensor))
        except Exception as error:  # onnx raises several types for damaged tensors
            raise UnknownSizeError("its data do not fit its shape") from error
    return Sized(shape, tensor.data_type)


PRODUCTS = ("Conv", "Gemm", "MatMul", "Einsum", "Attention", "RNN", "GRU", "LSTM", "DFT")
"""Operators whose name has one of these read their inputs many times."""
Inputs = Sequence[Sized | None]
Attributes = Mapping[str, onnx.AttributeProto]
Rule = Callable[[NodeProto, Inputs, Attributes], tuple[Sized, int]]
"""From a node, its inputs (None for those left out) and attributes to its output, and the steps of computing it beyond
one for each element that it reads or gives."""


def sized_outputs(node: NodeProto, inputs: Inputs, attributes: Attributes, opset: int) -> tuple[list[Sized], int]:
    """Work out the results of a node whose inputs are constants.

    Args:
        node: Of ONNX's own operators.
        inputs: Of the node, None for those left out.
        attributes: Of the node by name, those that refer to a function's filled in.
        opset: Of the operators.

    Returns:
        The results, and the steps of computing them.

    Raises:
        UnknownSizeError: The results have no sizes that can be told.
    """
    rule = RULES.get(node.op_type)
    try:
        if rule is not None:
            if len(node.output) != 1:
                raise UnknownSizeError(f"{node.op_type} has {len(node.output)} outputs")
            result, steps = rule(node, inputs, attributes)
            results = [result]
        else:
            results, steps = _infer(node, inputs, attributes, opset)
    except (IndexError, KeyError, AttributeError, ValueError, TypeError, OverflowError, ArithmeticError) as error:
        raise UnknownSizeError(f"{node.op_type} has inputs or attributes that do not fit it") from error
    results = _with_values(node, inputs, attributes, results, opset)
    ends = [*results, *(value for value in inputs if value is not None)]
    return results, steps + sum(value.numel for value in ends)


def _infer(node: NodeProto, inputs: Inputs, attributes: Attributes, opset: int) -> tuple[list[Sized], int]:
    """Ask onnx, for one node."""
    plain = _plain(node, attributes)
    types, data = {}, {}
    for name, value in zip(node.input, inputs, strict=True):
        if value is not None:
            types[name] = onnx.helper.make_tensor_type_proto(value.data_type, value.shape)
            if value.values is not None:
                data[name] = numpy_helper.from_array(value.values)
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, "")
        found = onnx.shape_inference.infer_node_outputs(
            schema, plain, types, data, opset_imports=[onnx.helper.make_opsetid("", opset)]
        )
    except Exception as error:  # onnx raises several types
        raise UnknownSizeError(f"{node.op_type} has inputs or attributes that do not fit it") from error
    results = []
    for name in node.output:
        kind = found[name].tensor_type if name in found else None
        if kind is None or not kind.HasField("shape") or not all(d.HasField("dim_value") for d in kind.shape.dim):
            raise UnknownSizeError(f"the size of what {node.op_type} gives cannot be told")
        results.append(Sized(tuple(dimension.dim_value for dimension in kind.shape.dim), kind.elem_type))
    return results, _product_steps(node, inputs, results)


def _with_values(
    node: NodeProto, inputs: Inputs, attributes: Attributes, results: list[Sized], opset: int
) -> list[Sized]:
    """Add the elements of small integer results of small inputs: networks compute shapes."""
    arrays = {name: value.values for name, value in zip(node.input, inputs, strict=True) if value is not None}
    small = all(value.numel <= MAX_VALUES and value.data_type in SHAPES for value in results)
    whole = arrays and all(array is not None for array in arrays.values())
    if not small or not whole or all(value.values is not None for value in results):
        return results
    from onnx.reference import ReferenceEvaluator  # here, as few files need it

    try:
        arguments = list(arrays)
        graph = onnx.helper.make_graph(
            [_plain(node, attributes)],
            "g",
            [onnx.helper.make_empty_tensor_value_info(name) for name in arguments],
            [onnx.helper.make_empty_tensor_value_info(name) for name in node.output],
        )
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
        found = ReferenceEvaluator(model).run(None, arrays)
    except Exception:  # the operator has no counterpart there, or refuses its inputs
        return results
    return [
        Sized(value.shape, value.data_type, array) if value.shape == getattr(array, "shape", None) else value
        for value, array in zip(results, found, strict=True)
    ]


def _plain(node: NodeProto, attributes: Attributes) -> NodeProto:
    plain = NodeProto(op_type=node.op_type, input=node.input, output=node.output)
    for name, attribute in attributes.items():
        plain.attribute.add().CopyFrom(attribute)
        plain.attribute[-1].name = name
    return plain


def _product_steps(node: NodeProto, inputs: Inputs, results: Sequence[Sized]) -> int:
    """Count multiplications: exactly for convolutions and products of matrices, at most so many for the others."""
    total = sum(value.numel for value in results)
    weights = [value for value in inputs if value is not None and len(value.shape) > 1]
    if not any(word in node.op_type for word in PRODUCTS) or len(weights) < 2:
        return 0
    if node.op_type == "ConvTranspose":
        return weights[0].numel * math.prod(weights[1].shape[1:])
    if node.op_type.endswith(("Conv", "ConvInteger")):
        return total * math.prod(weights[1].shape[1:])
    if node.op_type == "Gemm":
        return total * max(weights[0].shape)
    return total * max(value.numel for value in weights)


def _given(inputs: Inputs, index: int) -> Sized:
    value = inputs[index] if index < len(inputs) else None
    if value is None:
        raise UnknownSizeError("an input is missing")
    return value


def _optional(inputs: Inputs, index: int) -> Sized | None:
    return inputs[index] if index < len(inputs) else None


def _axis(attributes: Attributes, rank: int, default: int = 0) -> int:
    axis = attributes["axis"].i if "axis" in attributes else default
    if not -rank <= axis < rank:
        raise UnknownSizeError(f"its axis is {axis} of {rank}")
    return int(axis) % rank


def _constant(node: NodeProto, inputs: Inputs, attributes: Attributes) -> tuple[Sized, int]:
    ((name, attribute),) = attributes.items()
    if name == "value":
        return sized_tensor(attribute.t), 0
    if name == "value_ints":
        values = np.array(attribute.ints, np.int64)
        return Sized(values.shape, TensorProto.INT64, values if values.size <= MAX_VALUES else None), 0
    if name == "value_int":
        return Sized((), TensorProto.INT64, np.array(attribute.i, np.int64)), 0
    if name in ("value_float", "value_floats"):
        return Sized((len(attribute.floats),) if name == "value_floats" else (), TensorProto.FLOAT), 0
    raise UnknownSizeError(f"its constant is a {name}")


def _same(node: NodeProto, inputs: Inputs, attributes: Attributes) -> tuple[Sized, int]:
    value = _given(inputs, 0)
    values = value.values
    if values is not None and node.op_type == "Abs":
        values = np.abs(values)
    elif node.op_type != "Identity":
        values = None
    return Sized(value.shape, value.data_type, values), 0


def _sums(node: NodeProto, inputs: Inputs, attributes: Attributes) -> tuple[Sized, int]:
    value, axis = _given(inputs, 0), _given(inputs, 1)
    sums = None
    if value.values is not None and not any(attribute.i for attribute in attributes.values()):
        sums = np.cumsum(value.values, axis.as_integers()[0], value.values.dtype)  # an axis may come as a list of one
    return Sized(value.shape, value.data_type, sums), 0


def _cast(node: NodeProto, inputs: Inputs, attributes: Attributes) -> tuple[Sized, int]:
    value, data_type = _given(inputs, 0), int(attributes["to"].i)
    is_whole = data_type in (TensorProto.INT32, TensorProto.INT64)
    return Sized(value.shape, data_type, value.values if is_whole else None), 0


def _broadcast(node: NodeProto, inputs: Inputs, attributes: Attributes) -> tuple[Sized, int]:
    operands = [value for value in inputs if value is not None]
    shape = np.broadcast_shapes(*(value.shape for value in operands))
    comparison = node.op_type in ("Less", "Greater", "Equal", "And", "Or")
    return Sized(shape, TensorProto.BOOL if comparison else operands[-1].data_type), 0


def _reshape(node: NodeProto, inputs: Inputs, attributes: Attributes) -> tuple[Sized, int]:
    value, wanted = _given(inputs, 0), list(_given(inputs, 1).as_integers())
    if not ("allowzero" in attributes and attributes["allowzero"].i):
        wanted = [value.shape[index] if size == 0 else size for index, size in enumerate(wanted)]
    if wanted.count(-1) == 1:
        rest = -math.prod(wanted)
        wanted[wanted.index(-1)] = value.numel // rest if rest else 0
    if math.prod(wanted) != value.numel:
        raise UnknownSizeError(f"{value.numel} elements are reshaped to {wanted[:MAX_RANK]}")
    return Sized(tuple(wanted), value.data_type, None if value.values is None else value.values.reshape(wanted)), 0


def _unsqueeze(node: NodeProto, inputs: Inputs, attributes: Attributes) -> tuple[Sized, int]:
    value, axes = _given(inputs, 0), _given(inputs, 1).as_integers()
    if len(axes) > MAX_RANK:
        raise UnknownSizeError(f"it has {len(axes)} axes")
    rank = len(value.shape) + len(axes)
    places = {axis % rank for axis in axes}
    left = iter(value.shape)
    return Sized(tuple(1 if axis in places else next(left) for axis in range(rank)), value.data_type), 0


def _transpose(node: NodeProto, inputs: Inputs, attributes: Attributes) -> tuple[Sized, int]:
    value = _given(inputs, 0)
    order = list(attributes["perm"].ints) if "perm" in attributes else list(range(len(value.shape)))[::-1]
    if sorted(order) != list(range(len(value.shape))):
        raise UnknownSizeError(f"its axes are {order[:MAX_RANK]} of {len(value.shape)}")
    return Sized(tuple(value.shape[axis] for axis in order), value.data_type), 0


def _concat(node: NodeProto, inputs: Inputs, attributes: Attributes) -> tuple[Sized, int]:
    parts = [value for value in inputs if value is not None]
    axis = _axis(attributes, len(parts[0].shape))
    shape = list(parts[0].shape)
    if any((*part.shape[:axis], *part.shape[axis + 1 :]) != (*shape[:axis], *shape[axis + 1 :]) for part in parts):
        raise UnknownSizeError("its parts differ in their other axes")
    shape[axis] = sum(part.shape[axis] for part in parts)
    return Sized(tuple(shape), parts[0].data_type), 0


def _slice(node: NodeProto, inputs: Inputs, attributes: Attributes) -> tuple[Sized, int]:
    value = _given(inputs, 0)
    starts, ends = _given(inputs, 1).as_integers(), _given(inputs, 2).as_integers()
    axes, steps = _optional(inputs, 3), _optional(inputs, 4)
    chosen = range(len(starts)) if axes is None else axes.as_integers()
    strides = (1,) * len(starts) if steps is None else steps.as_integers()
    shape = list(value.shape)
    for start, end, axis, stride in zip(starts, ends, chosen, strides, strict=True):
        # Negative ends are counted from the end, and one beyond the first element means "to the first".
        places = range(*slice(start, None if stride < 0 and end < -shape[axis] else end, stride).indices(shape[axis]))
        shape[axis] = len(places)
    return Sized(tuple(shape), value.data_type), 0


def _gather(node: NodeProto, inputs: Inputs, attributes: Attributes) -> tuple[Sized, int]:
    value, places = _given(inputs, 0), _given(inputs, 1)
    axis = _axis(attributes, len(value.shape))
    return Sized((*value.shape[:axis], *places.shape, *value.shape[axis + 1 :]), value.data_type), 0


def _like_indices(node: NodeProto, inputs: Inputs, attributes: Attributes) -> tuple[Sized, int]:
    return Sized(_given(inputs, 1).shape, _given(inputs, 0).data_type), 0


def _expand(node: NodeProto, inputs: Inputs, attributes: Attributes) -> tuple[Sized, int]:
    value, wanted = _given(inputs, 0), _given(inputs, 1).as_integers()
    if any(size < 0 for size in wanted):
        raise UnknownSizeError(f"it is expanded to {list(wanted)[:MAX_RANK]}")
    return Sized(tuple(np.broadcast_shapes(value.shape, wanted)), value.data_type), 0


def _constant_of_shape(node: NodeProto, inputs: Inputs, attributes: Attributes) -> tuple[Sized, int]:
    data_type = attributes["value"].t.data_type if "value" in attributes else TensorProto.FLOAT
    return Sized(_given(inputs, 0).as_integers(), data_type), 0


def _range(node: NodeProto, inputs: Inputs, attributes: Attributes) -> tuple[Sized, int]:
    start, limit, delta = (_given(inputs, index).as_integers()[0] for index in range(3))
    return Sized((max(0, -((start - limit) // delta)),), _given(inputs, 0).data_type), 0


def _matmul(node: NodeProto, inputs: Inputs, attributes: Attributes) -> tuple[Sized, int]:
    a, b = _given(inputs, 0), _given(inputs, 1)
    if len(a.shape) < 2 or len(b.shape) < 2 or a.shape[-1] != b.shape[-2]:
        raise UnknownSizeError(f"it multiplies {list(a.shape)[:MAX_RANK]} by {list(b.shape)[:MAX_RANK]}")
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    data_type = TensorProto.INT32 if node.op_type == "MatMulInteger" else a.data_type
    result = Sized((*batch, a.shape[-2], b.shape[-1]), data_type)
    return result, result.numel * a.shape[-1]


def _dequantize(node: NodeProto, inputs: Inputs, attributes: Attributes) -> tuple[Sized, int]:
    return Sized(_given(inputs, 0).shape, _given(inputs, 1).data_type), 0


def _quantize(node: NodeProto, inputs: Inputs, attributes: Attributes) -> tuple[Sized, int]:
    return Sized(_given(inputs, 0).shape, TensorProto.UINT8), 0


def _shape(node: NodeProto, inputs: Inputs, attributes: Attributes) -> tuple[Sized, int]:
    values = np.array(_given(inputs, 0).shape, np.int64)
    return Sized(values.shape, TensorProto.INT64, values), 0


RULES: Mapping[str, Rule] = {
    "Constant": _constant,
    **dict.fromkeys(("Abs", "Identity", "Neg", "Not", "Sign"), _same),
    "Cast": _cast,
    "CumSum": _sums,
    "ScatterElements": _same,
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Mod", "Less", "Greater", "Equal", "And", "Or", "Where"), _broadcast),
    "Reshape": _reshape,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    "Concat": _concat,
    "Slice": _slice,
    "Gather": _gather,
    "GatherElements": _like_indices,
    "Expand": _expand,
    "ConstantOfShape": _constant_of_shape,
    "Range": _range,
    **dict.fromkeys(("MatMul", "MatMulInteger"), _matmul),
    "DequantizeLinear": _dequantize,
    "QuantizeLinear": _quantize,
    "Shape": _shape,
}
"""The operators of decoders, and those that stand between codes and the network."""
