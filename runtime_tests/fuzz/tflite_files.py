"""This module damages .tflite files in the ways that chance and malice do: bytes, and every part of the schema.

Each mutant is one change, or a few, of a file that holds; the same generator gives the same mutants.
"""

import json
import random
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from export.tflite.file.flatbuffer import align_buffers, pack_model, read
from export.tflite.runtime import schema
from runtime_tests.fuzz.damage import damage

NUMBERS = (0, 1, 2, 3, -1, -2, 4, 7, 8, 127, 128, 255, 256, 32767, 65536, 10**6, 2**31 - 1, -(2**31))
"""Numbers that sizes, indices and options are set to."""
WORDS = (*NUMBERS[:15], 2**30, 2**31 - 1, 2**31, 2**32 - 4, 2**32 - 1)
"""Words that 4 bytes are set to."""
SCALES = (0.0, -1.0, float("nan"), float("inf"), 1e-38, 1e-45, 3e38, 1e10)
TEXTS = (b"", b"x" * 100_000, b"\x1b[2J\x1b[Hcodes ok", b"a\nb", b"\xff\xfe", "\u202ecba".encode(), b"a\0b", b"..")
"""Names that no file of ours has."""
DEEP = 5000
"""Nested lists of one JSON text."""

Edit = Callable[[Any, random.Random], str]


def mutate(content: bytes, generator: random.Random) -> tuple[bytes, str]:
    """Change a file.

    Args:
        content: A file that LiteRT opens.
        generator: Chooses the change.

    Returns:
        The mutant, and what was done.
    """
    if generator.random() < 0.35:
        return _mutate_bytes(content, generator)
    while True:
        model = read(content)
        model.buffers = align_buffers(model)
        done = []
        try:
            for _ in range(generator.choice((1, 1, 1, 2, 3))):
                done.append(generator.choice(EDITS)(model, generator))
            return pack_model(model, len(content)), "; ".join(done)
        except (struct.error, TypeError, ValueError, IndexError, AttributeError, OverflowError, RecursionError):
            continue  # an edit left nothing for the next one, or the schema's writer cannot write it


def _mutate_bytes(content: bytes, generator: random.Random) -> tuple[bytes, str]:
    """Damage bytes, or the words that offsets and lengths are."""
    if generator.random() < 0.5:
        return damage(content, generator)
    data = bytearray(content)
    start = 4 * generator.randrange(2, len(data) // 4)
    word = generator.choice(WORDS) if generator.random() < 0.5 else start + 4 * generator.randrange(-2000, 2000)
    data[start : start + 4] = struct.pack("<I", word % 2**32)
    return bytes(data), f"the word at {start} is {word}"


def _number(generator: random.Random) -> int:
    return generator.choice(NUMBERS) if generator.random() < 0.7 else generator.randrange(-5, 70)


def _one(items: Any, generator: random.Random) -> tuple[int, Any]:
    number = generator.randrange(len(items))
    return number, items[number]


def _with(values: Any, generator: random.Random, value: Any) -> list[Any]:
    """Give a list with a changed, removed or added element."""
    items = [] if values is None else list(values)
    kind = generator.randrange(4)
    if kind == 0 or not items:
        items.insert(generator.randint(0, len(items)), value)
    elif kind == 1:
        del items[generator.randrange(len(items))]
    else:
        items[generator.randrange(len(items))] = value
    return items


def _tensor(model: Any, generator: random.Random) -> tuple[int, Any]:
    return _one(generator.choice(model.subgraphs).tensors, generator)


def _operator(model: Any, generator: random.Random) -> tuple[int, Any]:
    return _one(generator.choice(model.subgraphs).operators, generator)


def _constant(model: Any, generator: random.Random) -> tuple[int, Any]:
    tensors = model.subgraphs[0].tensors
    number = generator.choice([n for n, tensor in enumerate(tensors) if model.buffers[tensor.buffer].data])
    return number, tensors[number]


def _shape(model: Any, generator: random.Random) -> str:
    number, tensor = _tensor(model, generator)
    tensor.shape = _with(tensor.shape, generator, _number(generator))
    return f"tensor {number} has shape {tensor.shape}"


def _signature_of_shape(model: Any, generator: random.Random) -> str:
    number, tensor = _tensor(model, generator)
    tensor.shapeSignature = _with(tensor.shapeSignature, generator, _number(generator))
    return f"tensor {number} has shape_signature {tensor.shapeSignature}"


def _type(model: Any, generator: random.Random) -> str:
    number, tensor = _tensor(model, generator)
    tensor.type = generator.choice((*range(22), 60, 127))
    return f"tensor {number} is of type {tensor.type}"


def _buffer_index(model: Any, generator: random.Random) -> str:
    number, tensor = _tensor(model, generator)
    tensor.buffer = generator.choice((generator.randrange(len(model.buffers)), 0, len(model.buffers), 2**32 - 1))
    return f"tensor {number} has buffer {tensor.buffer}"


def _variable(model: Any, generator: random.Random) -> str:
    number, tensor = _tensor(model, generator)
    tensor.isVariable = True
    return f"tensor {number} is a variable"


def _name(model: Any, generator: random.Random) -> str:
    text = generator.choice(TEXTS)
    tables = [
        (generator.choice(model.subgraphs[0].tensors), "name"),
        (generator.choice(model.metadata), "name"),
        (generator.choice(model.operatorCodes), "customCode"),
        (model.subgraphs[0], "name"),
        (model, "description"),
        *((signature, "signatureKey") for signature in model.signatureDefs),
        *((entry, "name") for signature in model.signatureDefs for entry in (*signature.inputs, *signature.outputs)),
    ]
    table, field = generator.choice(tables)
    setattr(table, field, text)
    return f"{field} of a {type(table).__name__} is {text[:20]!r}"


def _quantization(model: Any, generator: random.Random) -> str:
    number, tensor = _tensor(model, generator)
    quantized = [n for n, other in enumerate(model.subgraphs[0].tensors) if _is_quantized(other)]
    if quantized and generator.random() < 0.9:
        number = generator.choice(quantized)
        tensor = model.subgraphs[0].tensors[number]
    kind, grid = generator.randrange(6), tensor.quantization
    if kind == 0 or grid is None:
        tensor.quantization = None
        return f"tensor {number} has no quantization"
    if kind == 1:
        grid.scale = np.array(_with(grid.scale, generator, generator.choice(SCALES)), np.float32)
        return f"tensor {number} has {len(grid.scale)} scales, the first {grid.scale[:1]}"
    if kind == 2:
        value = generator.choice((*NUMBERS, 2**63 - 1, -(2**63)))
        grid.zeroPoint = np.array(_with(grid.zeroPoint, generator, value), np.int64)
        return f"tensor {number} has {len(grid.zeroPoint)} zero points, the first {grid.zeroPoint[:1]}"
    if kind == 3:
        grid.quantizedDimension = _number(generator)
        return f"tensor {number} is quantized along {grid.quantizedDimension}"
    if kind == 4:
        grid.scale = None
        return f"tensor {number} has no scale"
    grid.zeroPoint = None
    return f"tensor {number} has no zero point"


def _is_quantized(tensor: Any) -> bool:
    return tensor.quantization is not None and tensor.quantization.scale is not None


def _sparsity(model: Any, generator: random.Random) -> str:
    sparse = [tensor for tensor in model.subgraphs[0].tensors if tensor.sparsity is not None]
    tensor = generator.choice(sparse) if sparse else _constant(model, generator)[1]
    table = tensor.sparsity
    if table is None:
        table = tensor.sparsity = schema().SparsityParametersT()
        table.traversalOrder, table.dimMetadata = list(range(len(tensor.shape))), []
        return "a dense tensor is sparse, without dimensions"
    kind = generator.randrange(7)
    if kind == 0:
        table.traversalOrder = _with(table.traversalOrder, generator, _number(generator))
        return f"traversal_order is {table.traversalOrder}"
    if kind == 1:
        table.blockMap = _with(table.blockMap, generator, _number(generator))
        return f"block_map is {table.blockMap}"
    if kind == 2:
        tensor.sparsity = None
        return "a sparse tensor is dense"
    number, dimension = _one(table.dimMetadata, generator)
    if kind == 3:
        dimension.denseSize = _number(generator)
        return f"dimension {number} has dense_size {dimension.denseSize}"
    if kind == 4:
        dimension.format = generator.choice((0, 1, 2, 127))
        return f"dimension {number} has format {dimension.format}"
    dimension = table.dimMetadata[-1]
    field = generator.choice(("arraySegments", "arrayIndices"))
    vector = getattr(dimension, field)
    if kind == 5:
        setattr(dimension, field, None)
        setattr(dimension, f"{field}Type", 0)
        return f"{field} is missing"
    largest = 255 if np.asarray(vector.values).dtype == np.uint8 else 65535
    vector.values = np.array(
        _with(vector.values, generator, generator.choice((0, 1, 7, largest, largest - 1))),
        np.asarray(vector.values).dtype,
    )
    return f"{field} has {len(vector.values)} values, one of them changed"


def _operands(model: Any, generator: random.Random) -> str:
    number, operator = _operator(model, generator)
    field = generator.choice(("inputs", "inputs", "inputs", "outputs", "intermediates"))
    count = len(model.subgraphs[0].tensors)
    value = generator.choice((generator.randrange(count), generator.randrange(count), _number(generator), count))
    setattr(operator, field, _with(getattr(operator, field), generator, value))
    return f"operator {number} has {field} {list(map(int, getattr(operator, field)))}"


def _same_operand(model: Any, generator: random.Random) -> str:
    """Let an operator write what it reads, or what a later one computes."""
    number, operator = _operator(model, generator)
    operator.outputs = [generator.choice([int(value) for value in operator.inputs if value >= 0])]
    return f"operator {number} writes its own operand"


def _opcode_index(model: Any, generator: random.Random) -> str:
    number, operator = _operator(model, generator)
    operator.opcodeIndex = generator.choice((generator.randrange(len(model.operatorCodes)), *range(6), 2**31))
    return f"operator {number} is of kind {operator.opcodeIndex}"


def _operator_code(model: Any, generator: random.Random) -> str:
    number, code = _one(model.operatorCodes, generator)
    code.builtinCode = generator.choice((generator.randrange(210), 32, 32, 118, 119, 2**31 - 1, -1))
    code.deprecatedBuiltinCode = min(max(code.builtinCode, -128), 127)
    return f"kind {number} is builtin operator {code.builtinCode}"


def _version(model: Any, generator: random.Random) -> str:
    number, code = _one(model.operatorCodes, generator)
    code.version = _number(generator)
    return f"kind {number} is of version {code.version}"


def _options(model: Any, generator: random.Random) -> str:
    operators = [
        operator
        for operator in model.subgraphs[0].operators
        if operator.builtinOptions is not None and vars(operator.builtinOptions)
    ]
    operator = generator.choice(operators)
    kind = generator.randrange(8)
    if kind == 0:
        operator.builtinOptions, operator.builtinOptionsType = None, 0
        return "an operator has no options"
    if kind == 1:
        other = generator.choice(operators)
        operator.builtinOptions, operator.builtinOptionsType = other.builtinOptions, other.builtinOptionsType
        return f"an operator has {type(other.builtinOptions).__name__}"
    if kind == 2:
        operator.builtinOptionsType = generator.choice((*range(30), 127, 255))
        return f"options of an operator are called {operator.builtinOptionsType}"
    fields = sorted(vars(operator.builtinOptions))
    field = generator.choice(fields)
    value = getattr(operator.builtinOptions, field)
    changed: Any = generator.choice(SCALES) if isinstance(value, float) else _number(generator)
    if isinstance(value, list | np.ndarray):
        changed = _with(value, generator, _number(generator))
    setattr(operator.builtinOptions, field, changed)
    return f"{field} of {type(operator.builtinOptions).__name__} is {changed}"


def _order(model: Any, generator: random.Random) -> str:
    operators, kind = model.subgraphs[0].operators, generator.randrange(3)
    number = generator.randrange(len(operators))
    if kind == 0:
        operators.append(operators.pop(number))
        return f"operator {number} comes last"
    if kind == 1:
        operators.append(operators[number])
        return f"operator {number} comes twice"
    del operators[number]
    return f"operator {number} is left out"


def _interface(model: Any, generator: random.Random) -> str:
    subgraph = model.subgraphs[0]
    field = generator.choice(("inputs", "outputs"))
    count = len(subgraph.tensors)
    value = generator.choice((generator.randrange(count), count, _number(generator)))
    setattr(subgraph, field, _with(getattr(subgraph, field), generator, value))
    return f"the {field} are {list(map(int, getattr(subgraph, field)))}"


def _subgraphs(model: Any, generator: random.Random) -> str:
    kind = generator.randrange(3)
    if kind == 0:
        model.subgraphs.append(model.subgraphs[0])
        return "the subgraph comes twice"
    if kind == 1:
        model.subgraphs = []
        return "no subgraph"
    fb = schema()
    operator = generator.choice(model.subgraphs[0].operators)
    name, options = generator.choice((("WHILE", fb.WhileOptionsT), ("IF", fb.IfOptionsT), ("CALL_ONCE", None)))
    code = fb.OperatorCodeT()
    code.builtinCode = getattr(fb.BuiltinOperator, name)
    code.deprecatedBuiltinCode, code.version = code.builtinCode, 1
    operator.opcodeIndex = len(model.operatorCodes)
    model.operatorCodes.append(code)
    if options is not None:
        operator.builtinOptions = options()
        operator.builtinOptionsType = getattr(fb.BuiltinOptions, f"{name.title()}Options")
        for field in vars(operator.builtinOptions):
            setattr(operator.builtinOptions, field, generator.choice((0, 1, -1)))
    return f"an operator is {name}"


def _signatures(model: Any, generator: random.Random) -> str:
    signature = generator.choice(model.signatureDefs)
    kind = generator.randrange(5)
    if kind == 0:
        model.signatureDefs = []
        return "no signature"
    if kind == 1:
        signature.subgraphIndex = generator.choice((1, 2**31, 2**32 - 1))
        return f"the signature is of subgraph {signature.subgraphIndex}"
    entries = generator.choice((signature.inputs, signature.outputs))
    if kind == 2:
        entries.append(entries[0])
        return "an entry of the signature comes twice"
    if kind == 3:
        entries.clear()
        return "the signature lacks its entries"
    entry = generator.choice(entries)
    entry.tensorIndex = generator.choice((generator.randrange(len(model.subgraphs[0].tensors)), 10**6, 2**32 - 1))
    return f"{entry.name!r} is tensor {entry.tensorIndex}"


def _data(model: Any, generator: random.Random) -> str:
    number, tensor = _constant(model, generator)
    buffer, kind = model.buffers[tensor.buffer], generator.randrange(5)
    size = len(buffer.data)
    if kind == 0:
        buffer.data = buffer.data[: generator.randrange(size)]
    elif kind == 1:
        buffer.data = buffer.data + bytes(generator.choice((1, 4, 1000)))
    elif kind == 2:
        other = generator.randrange(len(model.buffers))
        model.buffers[tensor.buffer], model.buffers[other] = model.buffers[other], buffer
    elif size >= 4:
        start = 4 * generator.randrange(size // 4)
        word = struct.pack("<i", _number(generator))
        buffer.data = buffer.data[:start] + word + buffer.data[start + 4 :]
    return f"data of tensor {number} is changed ({kind})"


def _small_data(model: Any, generator: random.Random) -> str:
    """Change a number of a constant that operators read as sizes, axes or positions."""
    tensors = model.subgraphs[0].tensors
    small = [
        (number, tensor)
        for number, tensor in enumerate(tensors)
        if tensor.type == schema().TensorType.INT32 and 4 <= len(model.buffers[tensor.buffer].data) <= 64
    ]
    number, tensor = generator.choice(small)
    buffer = model.buffers[tensor.buffer]
    values = np.frombuffer(buffer.data, np.int32).copy()
    values[generator.randrange(len(values))] = _number(generator)
    buffer.data = values.tobytes()
    return f"tensor {number} holds {values.tolist()}"


def _metadata(model: Any, generator: random.Random) -> str:
    entry = generator.choice(model.metadata)
    kind = generator.randrange(6)
    if kind == 0:
        entry.buffer = generator.choice((0, len(model.buffers), 2**32 - 1, generator.randrange(len(model.buffers))))
        return f"metadata has buffer {entry.buffer}"
    buffer = model.buffers[entry.buffer]
    if kind == 1:
        buffer.data = b'{"a":' + b"[" * DEEP + b"]" * DEEP + b"}"
        return "metadata is nested"
    if kind == 2:
        buffer.data = bytes(generator.randrange(256) for _ in range(64))
        return "metadata is noise"
    content = json.loads(buffer.data)
    path = []
    place: Any = content
    while isinstance(place, dict | list) and place:
        holder = place
        key = generator.choice(sorted(place)) if isinstance(place, dict) else generator.randrange(len(place))
        path.append(str(key))
        place = place[key]
        if generator.random() < 0.2:
            break
    value: Any = generator.choice(
        (None, -1, 0, 10**30, 1e308, float("nan"), "x", "\x1b[2J", "y" * 50_000, [], {}, [[]], True)
    )
    holder[key] = value
    buffer.data = json.dumps(content).encode()
    return f"metadata has {str(value)[:20]!r} at {'.'.join(path)}"


EDITS: tuple[Edit, ...] = (
    _shape,
    _signature_of_shape,
    _type,
    _buffer_index,
    _variable,
    _name,
    _quantization,
    _quantization,
    _sparsity,
    _operands,
    _operands,
    _same_operand,
    _opcode_index,
    _operator_code,
    _version,
    _options,
    _options,
    _order,
    _interface,
    _subgraphs,
    _signatures,
    _data,
    _small_data,
    _metadata,
)
"""One of these is chosen at a time; those that reach more of LiteRT stand twice."""
