"""This module changes ONNX files: their bytes, and what stands in them, as nobody who means well would."""

import json
import random
from collections.abc import Callable, Mapping
from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from onnx import TensorProto

from runtime_tests.fuzz.damage import damage

SHARE_OF_DAMAGE = 0.3
"""So many mutants have bytes changed; the others are changed as messages, and parse."""
MAX_EDITS = 3
NUMBERS = (0, 1, -1, 2, 3, 7, 127, 255, 3000, 2**16, 10**9, 2**31 - 1, 2**31, 2**40, -(2**31), 2**62)
TEXTS = ("", "x", "a\x00b", "\x1b[2J", "\u202etxt", "a\nb", "n" * 5000, "../up", "/etc/passwd", "net.onnx", "é")
OPERATORS = (
    *("Identity", "Relu", "Neg", "Cast", "Expand", "Tile", "ConstantOfShape", "RandomNormal", "Range", "NonZero"),
    *("MatMul", "Conv", "Loop", "If", "Scan", "Concat", "Reshape", "Resize", "Gather", "Nothing", "Constant"),
)
JUNK: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    10**12,
    1e300,
    float("nan"),
    "",
    "x",
    "\ud800",
    "\x1b[2J",
    [],
    [[]],
    {},
    "y" * 3000,
)

Edit = Callable[[onnx.ModelProto, random.Random], None]


def mutate(content: bytes, generator: random.Random) -> tuple[bytes, str]:
    """Change an ONNX file.

    Args:
        content: A file that parses.
        generator: Decides what is changed.

    Returns:
        The mutant, and what was done.
    """
    if generator.random() < SHARE_OF_DAMAGE:
        return damage(content, generator)
    model = onnx.load_from_string(content)
    done = []
    for _ in range(generator.randint(1, MAX_EDITS)):
        name = generator.choice(list(EDITS))
        try:
            EDITS[name](model, generator)
        except (IndexError, ValueError, TypeError, RecursionError):
            continue  # the file has no such part (any more), or protobuf takes no such value
        done.append(name)
    return model.SerializeToString(), ", ".join(done) or "nothing"


def _messages(message: Message) -> list[Message]:
    found = [message]
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for part in [value] if isinstance(value, Message) else value:
                found += _messages(part)
    return found


def _tensors(model: onnx.ModelProto) -> list[TensorProto]:
    return [message for message in _messages(model) if isinstance(message, TensorProto)]


def _nodes(model: onnx.ModelProto, generator: random.Random) -> Any:
    """The nodes of the graph, or of one of the functions."""
    return generator.choice([model.graph.node, *(function.node for function in model.functions)])


def _names(model: onnx.ModelProto) -> list[str]:
    return [name for node in model.graph.node for name in (*node.input, *node.output)] or [""]


def _number(generator: random.Random, near: int = 0) -> int:
    return generator.choice((*NUMBERS, near - 1, near + 1, 2 * near))


def _any_field(model: onnx.ModelProto, generator: random.Random) -> None:
    message = generator.choice(_messages(model))
    field = generator.choice(list(message.DESCRIPTOR.fields))
    value: Any
    if field.type == FieldDescriptor.TYPE_MESSAGE or generator.random() < 0.2:
        message.ClearField(field.name)
        return
    if field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
        value = generator.choice(TEXTS)
        value = value.encode() if field.type == FieldDescriptor.TYPE_BYTES else value
    elif field.type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
        value = generator.choice((0.0, -1.0, float("nan"), float("inf"), 1e-40))
    else:
        value = _number(generator)
    if isinstance(getattr(message, field.name), str | bytes | int | float):
        setattr(message, field.name, value)
    else:
        items = getattr(message, field.name)
        items[generator.randrange(len(items) + 1) :] = [value]


def _dims(model: onnx.ModelProto, generator: random.Random) -> None:
    tensor = generator.choice(_tensors(model))
    if not tensor.dims or generator.random() < 0.2:
        tensor.dims.append(_number(generator))
    else:
        place = generator.randrange(len(tensor.dims))
        tensor.dims[place] = _number(generator, tensor.dims[place])


def _data_type(model: onnx.ModelProto, generator: random.Random) -> None:
    generator.choice(_tensors(model)).data_type = generator.choice((*range(28), 99, -1))


def _raw_data(model: onnx.ModelProto, generator: random.Random) -> None:
    tensor = generator.choice([tensor for tensor in _tensors(model) if tensor.raw_data])
    tensor.raw_data = damage(tensor.raw_data, generator)[0]


def _external(model: onnx.ModelProto, generator: random.Random) -> None:
    tensor = generator.choice(_tensors(model))
    tensor.data_location = TensorProto.EXTERNAL
    entries = (
        ("location", generator.choice(TEXTS)),
        ("offset", str(_number(generator))),
        ("length", str(_number(generator))),
    )
    for key, value in generator.sample(entries, generator.randint(1, 3)):
        tensor.external_data.add(key=key, value=value)


def _rename(model: onnx.ModelProto, generator: random.Random) -> None:
    parts = [*model.graph.node, *model.graph.initializer, *model.graph.input, *model.graph.output, *model.functions]
    generator.choice(parts).name = generator.choice((*TEXTS, *_names(model)))


def _rename_everywhere(model: onnx.ModelProto, generator: random.Random) -> None:
    old, new = generator.choice(_names(model)), generator.choice((*TEXTS, *_names(model)))
    for message in _messages(model.graph):
        if isinstance(message, onnx.NodeProto):
            message.input[:] = [new if name == old else name for name in message.input]
            message.output[:] = [new if name == old else name for name in message.output]
        elif isinstance(message, TensorProto | onnx.ValueInfoProto) and message.name == old:
            message.name = new


def _operator(model: onnx.ModelProto, generator: random.Random) -> None:
    node = generator.choice(_nodes(model, generator))
    if generator.random() < 0.3:
        node.domain = generator.choice(("", "ai.onnx", "codeq.storage", "com.microsoft", *TEXTS))
    else:
        node.op_type = generator.choice((*OPERATORS, *(function.name for function in model.functions)))


def _attribute(model: onnx.ModelProto, generator: random.Random) -> None:
    node = generator.choice([node for node in _nodes(model, generator) if node.attribute])
    attribute = generator.choice(node.attribute)
    kind = generator.randrange(6)
    if kind == 0:
        node.attribute.remove(attribute)
    elif kind == 1:
        attribute.type = generator.randrange(15)
    elif kind == 2:
        attribute.ref_attr_name = generator.choice((*TEXTS, "shape", "numel"))
    elif kind == 3:
        attribute.ints.append(_number(generator))
    elif attribute.ints:
        place = generator.randrange(len(attribute.ints))
        attribute.ints[place] = _number(generator, attribute.ints[place])
    else:
        attribute.i = _number(generator, attribute.i)


def _group(model: onnx.ModelProto, generator: random.Random) -> None:
    node = generator.choice([node for node in model.graph.node if node.op_type == "Conv"])
    kept = [attribute for attribute in node.attribute if attribute.name != "group"]
    del node.attribute[:]
    node.attribute.extend(kept)
    node.attribute.append(onnx.helper.make_attribute("group", _number(generator, 1)))


def _edge(model: onnx.ModelProto, generator: random.Random) -> None:
    node = generator.choice(_nodes(model, generator))
    ends = generator.choice((node.input, node.output))
    kind = generator.randrange(3)
    if kind == 0:
        ends.append(generator.choice(_names(model)))
    elif kind == 1:
        del ends[generator.randrange(len(ends))]
    else:
        ends[generator.randrange(len(ends))] = generator.choice((*TEXTS, *_names(model), *node.input, *node.output))


def _order(items: Any, generator: random.Random) -> None:
    """Drop, double, swap or shuffle the elements of a repeated field."""
    place = generator.randrange(len(items))
    kind = generator.randrange(4)
    if kind == 0:
        del items[place]
    elif kind == 1:
        items.add().CopyFrom(items[place])
    else:
        copies = [type(item).FromString(item.SerializeToString()) for item in items]
        if kind == 2:
            other = generator.randrange(len(copies))
            copies[place], copies[other] = copies[other], copies[place]
        else:
            generator.shuffle(copies)
        del items[:]
        items.extend(copies)


def _parts(model: onnx.ModelProto, generator: random.Random) -> None:
    graph = model.graph
    _order(
        generator.choice((graph.initializer, graph.input, graph.output, model.opset_import, model.functions)), generator
    )


def _sparse(model: onnx.ModelProto, generator: random.Random) -> None:
    if not model.graph.sparse_initializer:
        dense = generator.choice([tensor for tensor in model.graph.initializer if tensor.data_type == TensorProto.INT8])
        values = onnx.helper.make_tensor(dense.name, TensorProto.INT8, [1], [1])
        indices = onnx.helper.make_tensor("", TensorProto.INT64, [1], [_number(generator)])
        model.graph.sparse_initializer.append(onnx.helper.make_sparse_tensor(values, indices, [*dense.dims]))
        model.graph.initializer.remove(dense)
        return
    sparse = generator.choice(model.graph.sparse_initializer)
    kind = generator.randrange(3)
    if kind == 0:
        place = generator.randrange(len(sparse.dims))
        sparse.dims[place] = _number(generator, sparse.dims[place])
    else:
        tensor = sparse.indices if kind == 1 else sparse.values
        tensor.raw_data = damage(tensor.raw_data, generator)[0]


def _version(model: onnx.ModelProto, generator: random.Random) -> None:
    if generator.random() < 0.3:
        model.ir_version = _number(generator, model.ir_version)
    else:
        entry = generator.choice(model.opset_import)
        entry.version = generator.choice((*range(1, 32), _number(generator)))


def _port(model: onnx.ModelProto, generator: random.Random) -> None:
    item = generator.choice([*model.graph.input, *model.graph.output])
    if generator.random() < 0.2:
        item.type.Clear()
    elif generator.random() < 0.3:
        item.type.tensor_type.elem_type = generator.randrange(24)
    else:
        dimension = generator.choice(item.type.tensor_type.shape.dim)
        dimension.dim_value = _number(generator, dimension.dim_value)


def _calls(model: onnx.ModelProto, generator: random.Random) -> None:
    """Let a function call another one, or itself, twice."""
    function, other = generator.choice(model.functions), generator.choice(model.functions)
    for _ in range(2):
        function.node.add(
            op_type=other.name,
            domain=other.domain,
            input=function.input,
            output=generator.choice((function.output, ["v0"])),
        )


def _codes(model: onnx.ModelProto, generator: random.Random) -> None:
    """Let a large constant take the place of codes."""
    node = generator.choice([node for node in model.graph.node if node.op_type == "DequantizeLinear"])
    shape = [_number(generator) for _ in range(generator.randint(1, 3))]
    large = onnx.helper.make_node("Constant", [], ["@s"], value_ints=shape)
    filled = onnx.helper.make_node("ConstantOfShape", ["@s"], ["@c"])
    model.graph.node.insert(0, onnx.helper.make_node("Cast", ["@c"], ["@i"], to=TensorProto.INT8))
    model.graph.node.insert(0, filled)
    model.graph.node.insert(0, large)
    node.input[0] = "@i"


def _metadata(model: onnx.ModelProto, generator: random.Random) -> None:
    entry = generator.choice(model.metadata_props)
    if generator.random() < 0.2:
        entry.value = entry.value[: generator.randrange(len(entry.value))]
        return
    content = json.loads(entry.value)
    part: Any = content
    key: Any = generator.choice(list(part))
    while isinstance(part[key], dict | list) and part[key] and generator.random() < 0.8:
        part = part[key]
        key = generator.choice(list(part) if isinstance(part, dict) else range(len(part)))
    if generator.random() < 0.2:
        del part[key]
    else:
        near = (_number(generator, part[key]),) if isinstance(part[key], int) else ()
        part[key] = generator.choice((*JUNK, *near))
    entry.value = json.dumps(content)


def _nest(model: onnx.ModelProto, generator: random.Random) -> None:
    depth = generator.choice((100, 5000, 100_000))
    generator.choice(model.metadata_props).value = "[" * depth + "]" * depth


EDITS: Mapping[str, Edit] = {
    "any field": _any_field,
    "dims": _dims,
    "data type": _data_type,
    "raw data": _raw_data,
    "external data": _external,
    "name": _rename,
    "name everywhere": _rename_everywhere,
    "operator": _operator,
    "attribute": _attribute,
    "group": _group,
    "edge": _edge,
    "order of nodes": lambda model, generator: _order(_nodes(model, generator), generator),
    "order of parts": _parts,
    "sparse tensor": _sparse,
    "version": _version,
    "input or output": _port,
    "calls of functions": _calls,
    "large codes": _codes,
    "metadata": _metadata,
    "deep metadata": _nest,
}
"""What is changed in a message, by name."""
