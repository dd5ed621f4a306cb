"""Every small change of an ONNX file of a small network: more than three hundred mutants of each kind of file."""

import json
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from export.metadata import KEY
from tests.mutants.mutant import Mutant, metadata_changes, neighbours, with_metadata

OTHER_OPERATOR = {"Add": "Sub", "Relu": "Tanh", "Conv": "ConvTranspose", "Flatten": "Identity", "Reshape": "Flatten"}


def mutants(model: ModelProto) -> Iterator[Mutant]:
    """All mutants of a file."""
    text = next(entry.value for entry in model.metadata_props if entry.key == KEY)
    yield from with_metadata(_set_metadata, metadata_changes(text))
    yield from _tensors(model)
    yield from _grids(model, json.loads(text))
    yield from _nodes(model)
    yield from _functions(model)
    yield from _interface(model)
    yield from _packaging(model)


def _set_metadata(model: ModelProto, text: str) -> None:
    next(entry for entry in model.metadata_props if entry.key == KEY).value = text


def _tensor(model: ModelProto, name: str) -> TensorProto:
    found = [*model.graph.initializer, *(sparse.values for sparse in model.graph.sparse_initializer)]
    return next(tensor for tensor in found if tensor.name == name)


def _set(model: ModelProto, name: str, values: np.ndarray) -> None:
    _tensor(model, name).CopyFrom(numpy_helper.from_array(values, name))


def _tensors(model: ModelProto) -> Iterator[Mutant]:
    for tensor in [*model.graph.initializer, *(sparse.values for sparse in model.graph.sparse_initializer)]:
        values = np.asarray(numpy_helper.to_array(tensor))
        kind = f"{values.dtype} tensor"
        for place, changed in neighbours(values):
            yield Mutant(kind, f"{tensor.name}{place}", partial(_set, name=tensor.name, values=changed))
        if values.ndim and values.shape[0] > 1 and not np.array_equal(values, values[::-1]):
            yield Mutant("tensor reversed", tensor.name, partial(_set, name=tensor.name, values=values[::-1].copy()))
        if values.dtype == np.float32 and values.ndim:
            wider = values.astype(np.float64)
            yield Mutant("tensor of another type", tensor.name, partial(_set, name=tensor.name, values=wider))
        yield Mutant("typed data", tensor.name, partial(_type_data, name=tensor.name), strict=True)
    for number, sparse in enumerate(model.graph.sparse_initializer):
        indices = np.asarray(numpy_helper.to_array(sparse.indices))
        for place, changed in neighbours(indices):
            change = partial(_set_indices, number=number, values=changed)
            yield Mutant("sparse index", f"{sparse.values.name}{place}", change)
    names = [tensor.name for tensor in model.graph.initializer]
    for first, second in pairwise(names):
        one, other = (numpy_helper.to_array(_tensor(model, name)) for name in (first, second))
        if one.tobytes() != other.tobytes():
            yield Mutant("tensors swapped", f"{first}, {second}", partial(_swap_tensors, first=first, second=second))


def _type_data(model: ModelProto, name: str) -> None:
    """The same values in the fields that are not raw."""
    tensor = _tensor(model, name)
    values = numpy_helper.to_array(tensor)
    tensor.CopyFrom(helper.make_tensor(name, tensor.data_type, tensor.dims, values.reshape(-1).tolist()))


def _set_indices(model: ModelProto, number: int, values: np.ndarray) -> None:
    tensor = model.graph.sparse_initializer[number].indices
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def _swap_tensors(model: ModelProto, first: str, second: str) -> None:
    one, other = _tensor(model, first), _tensor(model, second)
    one.name, other.name = second, first


def _grids(model: ModelProto, content: dict[str, Any]) -> Iterator[Mutant]:
    """Scale and zero point in graph and metadata together."""
    initializers = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for name, grid in content.get("activations", {}).items():
        if f"{name}_scale" not in initializers:
            continue
        for direction in (np.inf, -np.inf):
            scale = np.nextafter(np.float32(grid["scale"]), np.float32(direction))
            yield Mutant("scale in both", f"{name} {scale}", partial(_move_scale, name=name, scale=scale), strict=True)
        for step in (1, -1):
            if 0 <= grid["zero_point"] + step <= 255:
                change = partial(_move_zero_point, name=name, zero_point=grid["zero_point"] + step)
                yield Mutant("zero point in both", f"{name} {step:+}", change, strict=True)


def _move_scale(model: ModelProto, name: str, scale: np.float32) -> None:
    for tensor in model.graph.initializer:
        if tensor.name == f"{name}_scale":
            tensor.CopyFrom(numpy_helper.from_array(np.asarray(scale), tensor.name))
    _record(model, name, scale=float(scale))


def _move_zero_point(model: ModelProto, name: str, zero_point: int) -> None:
    label = f"{name}_zero_point_of_its_own"
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(zero_point, np.uint8), label))
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.input[1] == f"{name}_scale":
            node.input[2] = label
    _record(model, name, zero_point=zero_point)


def _record(model: ModelProto, name: str, **grid: Any) -> None:
    entry = next(entry for entry in model.metadata_props if entry.key == KEY)
    content = json.loads(entry.value)
    content["activations"][name] |= grid
    entry.value = json.dumps(content, separators=(",", ":"), sort_keys=True)


def _nodes(model: ModelProto) -> Iterator[Mutant]:
    outputs = {value.name for value in model.graph.output}
    for number, node in enumerate(model.graph.node):
        place = f"{node.op_type} {node.output[0]}"
        for attribute, changed in _attributes(node):
            change = partial(_set_attribute, number=number, name=attribute, attribute=changed)
            what = "left out" if changed is None else helper.printable_attribute(changed)
            yield Mutant("attribute", f"{place} {attribute}: {what}"[:120], change)
        for added in _further_attributes(node):
            change = partial(_set_attribute, number=number, name=added.name, attribute=added)
            yield Mutant("attribute added", f"{place} {added.name}", change)
        for other in ("Identity", "Mul"):
            yield Mutant(f"{other} put in", f"behind {place}", partial(_put_in, number=number, operator=other))
        if node.op_type != "Relu":
            yield Mutant("Relu added", f"behind {place}", partial(_put_in, number=number, operator="Relu"))
        else:
            for low, high in ((0.0, 6.0), (0.0, 1e4), (0.0, 3e38)):
                change = partial(_clip, number=number, low=low, high=high)
                yield Mutant("Relu as Clip", f"{place} {high}", change)
            yield Mutant("Relu as LeakyRelu", place, partial(_rename_operator, number=number, operator="LeakyRelu"))
        yield Mutant("node removed", place, partial(_remove, number=number))
        if node.op_type in OTHER_OPERATOR:
            change = partial(_rename_operator, number=number, operator=OTHER_OPERATOR[node.op_type])
            yield Mutant("other operator", place, change)
        yield Mutant("other domain", place, partial(_set_domain, number=number))
        if len(node.input) > 1:
            yield Mutant("operands swapped", place, partial(_swap_operands, number=number))
            yield Mutant("operand left out", place, partial(_drop_operand, number=number))
        if node.op_type == "DequantizeLinear":
            yield Mutant("copy of another scale", place, partial(_copy_weight, number=number))
        yield Mutant("node renamed", place, partial(_rename_node, number=number), strict=True)
        if node.output[0] not in outputs:
            yield Mutant("value renamed", place, partial(_rename_value, name=node.output[0]))
        if number and not set(model.graph.node[number - 1].output) & set(node.input):
            yield Mutant("nodes in another order", place, partial(_swap_nodes, number=number), strict=True)


def _attributes(node: NodeProto) -> Iterator[tuple[str, AttributeProto | None]]:
    """Changed copies of a node's attributes; None leaves it out."""
    for attribute in node.attribute:
        value = helper.get_attribute_value(attribute)
        others: list[Any] = []
        if attribute.type == AttributeProto.INTS:
            others = [[*value[:i], value[i] + step, *value[i + 1 :]] for i in range(len(value)) for step in (1, -1)]
        elif attribute.type == AttributeProto.INT:
            others = [value + 1, value - 1]
        elif attribute.type == AttributeProto.FLOAT:
            others = [float(np.nextafter(np.float32(value), np.float32(9))), value + 1]
        elif attribute.type == AttributeProto.STRING:
            others = [value + b"X"]
        for other in others:
            yield attribute.name, helper.make_attribute(attribute.name, other)
        yield attribute.name, None


def _further_attributes(node: NodeProto) -> Iterator[AttributeProto]:
    there = {attribute.name for attribute in node.attribute}
    wanted = {
        "Gemm": {"alpha": 0.5, "beta": 0.5, "transA": 1, "transB": 0},
        "Conv": {"auto_pad": "SAME_LOWER", "group": 2, "strides": [2, 2], "dilations": [2, 2], "pads": [0, 0, 1, 1]},
        "DequantizeLinear": {"axis": 0},
        "QuantizeLinear": {"axis": 0, "saturate": 0},
        "Flatten": {"axis": 2},
        "ReduceMean": {"keepdims": 0},
        "Reshape": {"allowzero": 1},
    }
    for name, value in wanted.get(node.op_type, {}).items():
        if name not in there:
            yield helper.make_attribute(name, value)


def _set_attribute(model: ModelProto, number: int, name: str, attribute: AttributeProto | None) -> None:
    node = model.graph.node[number]
    kept = [item for item in node.attribute if item.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, *([] if attribute is None else [attribute])])


def _put_in(model: ModelProto, number: int, operator: str) -> None:
    """Put an operator behind a node: what read its result, or what the graph gives, takes that of the other."""
    node = model.graph.node[number]
    name = node.output[0]
    node.output[0] = f"{name}_before"
    for reader in model.graph.node:
        assert f"{name}_before" not in reader.input
    operands = [f"{name}_before"]
    if operator == "Mul":
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(1, np.float32), f"{name}_one"))
        operands.append(f"{name}_one")
    model.graph.node.insert(number + 1, helper.make_node(operator, operands, [name]))


def _clip(model: ModelProto, number: int, low: float, high: float) -> None:
    node = model.graph.node[number]
    for name, value in (("low", low), ("high", high)):
        label = f"{node.output[0]}_{name}"
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.float32), label))
        node.input.append(label)
    node.op_type = "Clip"


def _rename_operator(model: ModelProto, number: int, operator: str) -> None:
    model.graph.node[number].op_type = operator


def _set_domain(model: ModelProto, number: int) -> None:
    model.graph.node[number].domain = "com.microsoft"


def _remove(model: ModelProto, number: int) -> None:
    """Remove a node: what read its result takes its first operand."""
    node = model.graph.node[number]
    source, name = node.input[0] if node.input else "", node.output[0]
    for reader in model.graph.node:
        reader.input[:] = [source if operand == name else operand for operand in reader.input]
    for value in model.graph.output:
        if value.name == name:
            for maker in model.graph.node:
                maker.output[:] = [name if result == source else result for result in maker.output]
    del model.graph.node[number]


def _swap_operands(model: ModelProto, number: int) -> None:
    node = model.graph.node[number]
    node.input[:] = [node.input[1], node.input[0], *node.input[2:]]


def _drop_operand(model: ModelProto, number: int) -> None:
    node = model.graph.node[number]
    node.input[:] = node.input[:-1]


def _copy_weight(model: ModelProto, number: int) -> None:
    """A second dequantize with another scale, which the first reader takes."""
    node = model.graph.node[number]
    scale = next((item for item in model.graph.initializer if item.name == node.input[1]), None)
    assert scale is not None
    values = np.array(numpy_helper.to_array(scale))
    values.reshape(-1)[:1] *= 1.0001
    model.graph.initializer.append(numpy_helper.from_array(values, f"{scale.name}_copy"))
    copied = NodeProto()
    copied.CopyFrom(node)
    copied.name = copied.output[0] = f"{node.output[0]}_copy"
    copied.input[1] = f"{scale.name}_copy"
    reader = next(item for item in model.graph.node if node.output[0] in item.input)
    reader.input[:] = [copied.output[0] if name == node.output[0] else name for name in reader.input]
    model.graph.node.insert(number + 1, copied)


def _rename_node(model: ModelProto, number: int) -> None:
    model.graph.node[number].name += "_other"


def _rename_value(model: ModelProto, name: str) -> None:
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [f"{name}_other" if item == name else item for item in names]


def _swap_nodes(model: ModelProto, number: int) -> None:
    node = NodeProto()
    node.CopyFrom(model.graph.node[number])
    del model.graph.node[number]
    model.graph.node.insert(number - 1, node)


def _functions(model: ModelProto) -> Iterator[Mutant]:
    """The decoders of packed weights."""
    for number, function in enumerate(model.functions):
        for index, node in enumerate(function.node):
            place = f"{function.name}: {node.op_type} {node.output[0]}"
            if len(node.input) > 1:
                yield Mutant("function's operands", place, partial(_swap_in_function, number=number, index=index))
            yield Mutant("function's operator", place, partial(_rename_in_function, number=number, index=index))
        yield Mutant("function renamed", function.name, partial(_rename_function, number=number))
        yield Mutant("function copied", function.name, partial(_copy_function, number=number))


def _swap_in_function(model: ModelProto, number: int, index: int) -> None:
    node = model.functions[number].node[index]
    node.input[:] = [node.input[1], node.input[0], *node.input[2:]]


def _rename_in_function(model: ModelProto, number: int, index: int) -> None:
    node = model.functions[number].node[index]
    node.op_type = "Identity" if node.op_type != "Identity" else "Abs"


def _rename_function(model: ModelProto, number: int) -> None:
    function = model.functions[number]
    for node in model.graph.node:
        if (node.domain, node.op_type) == (function.domain, function.name):
            node.op_type += "_other"
    function.name += "_other"


def _copy_function(model: ModelProto, number: int) -> None:
    function = onnx.FunctionProto()
    function.CopyFrom(model.functions[number])
    function.name += "_copy"
    model.functions.append(function)


def _interface(model: ModelProto) -> Iterator[Mutant]:
    for role in ("input", "output"):
        for number, value in enumerate(getattr(model.graph, role)):
            yield Mutant(f"{role} renamed", value.name, partial(_rename_interface, role=role, number=number))
            for axis in range(len(value.type.tensor_type.shape.dim)):
                for size in (1, 3, 9):
                    change = partial(_set_dimension, role=role, number=number, axis=axis, size=size)
                    if value.type.tensor_type.shape.dim[axis].dim_value != size:
                        yield Mutant(f"{role}'s shape", f"{value.name}[{axis}] = {size}", change)
                change = partial(_set_dimension, role=role, number=number, axis=axis, size="free")
                yield Mutant(f"{role}'s shape", f"{value.name}[{axis}] free", change)
            for dtype in (TensorProto.DOUBLE, TensorProto.UINT8):
                change = partial(_set_type, role=role, number=number, dtype=dtype)
                yield Mutant(f"{role}'s type", f"{value.name} {dtype}", change)
            yield Mutant(f"{role} twice", value.name, partial(_repeat, role=role, number=number))
            yield Mutant(f"{role} removed", value.name, partial(_remove_value, role=role, number=number))
    for node in model.graph.node[:-1]:
        yield Mutant("output added", node.output[0], partial(_add_output, name=node.output[0]))


def _rename_interface(model: ModelProto, role: str, number: int) -> None:
    value = getattr(model.graph, role)[number]
    _rename_value(model, value.name)
    value.name += "_other"


def _set_dimension(model: ModelProto, role: str, number: int, axis: int, size: int | str) -> None:
    dimension = getattr(model.graph, role)[number].type.tensor_type.shape.dim[axis]
    if isinstance(size, int):
        dimension.dim_value = size
    else:
        dimension.dim_param = size


def _set_type(model: ModelProto, role: str, number: int, dtype: int) -> None:
    getattr(model.graph, role)[number].type.tensor_type.elem_type = dtype


def _repeat(model: ModelProto, role: str, number: int) -> None:
    values = getattr(model.graph, role)
    values.add().CopyFrom(values[number])


def _remove_value(model: ModelProto, role: str, number: int) -> None:
    del getattr(model.graph, role)[number]


def _add_output(model: ModelProto, name: str) -> None:
    model.graph.output.append(helper.make_empty_tensor_value_info(name))


def _packaging(model: ModelProto) -> Iterator[Mutant]:
    for name, change in {
        "producer_name": lambda model: setattr(model, "producer_name", "other"),
        "producer_version": lambda model: setattr(model, "producer_version", "9.9"),
        "doc_string": lambda model: setattr(model, "doc_string", "other"),
        "graph's doc_string": lambda model: setattr(model.graph, "doc_string", "other"),
        "graph's name": lambda model: setattr(model.graph, "name", "other"),
        "value_info": lambda model: model.graph.value_info.add().CopyFrom(model.graph.output[0]),
        "other metadata": lambda model: helper.set_model_props(
            model, {entry.key: entry.value for entry in model.metadata_props} | {"licence": "other"}
        ),
        "order of tensors": lambda model: _reverse(model.graph.initializer),
        "order of functions": lambda model: _reverse(model.functions),
    }.items():
        if name != "order of functions" or len(model.functions) > 1:
            yield Mutant("packaging", name, change, strict=True)
    for name, change in {
        "domain": lambda model: setattr(model, "domain", "other"),
        "model_version": lambda model: setattr(model, "model_version", 3),
        "opset + 1": lambda model: _add_opset(model, 1),
        "opset - 1": lambda model: _add_opset(model, -1),
        "opset of another domain": lambda model: model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1)),
        "IR version + 1": lambda model: setattr(model, "ir_version", model.ir_version + 1),
        "IR version - 1": lambda model: setattr(model, "ir_version", model.ir_version - 1),
        "unused tensor": lambda model: model.graph.initializer.append(
            numpy_helper.from_array(np.zeros(3, np.float32), "unused")
        ),
        "unused node": lambda model: model.graph.node.append(
            helper.make_node("Identity", [model.graph.input[0].name], ["unused"])
        ),
        "training_info": lambda model: model.training_info.add().algorithm.node.add(op_type="Identity"),
    }.items():
        yield Mutant("model", name, change)


def _reverse(repeated: Any) -> None:
    items = [type(item).FromString(item.SerializeToString()) for item in repeated]
    del repeated[:]
    repeated.extend(items[::-1])


def _add_opset(model: ModelProto, step: int) -> None:
    next(entry for entry in model.opset_import if not entry.domain).version += step
