"""Every small change of a .tflite file of a small network: more than three hundred mutants of each kind of file."""

import copy
import json
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from export.metadata import KEY
from export.program.codes import UINT8_TO_INT8
from export.program.names import codes_name
from export.tflite.file.flatbuffer import TYPES, operator_code, read_metadata, text_of
from export.tflite.runtime import schema
from tests.mutants.mutant import Mutant, metadata_changes, neighbours, with_metadata


def mutants(model: Any) -> Iterator[Mutant]:
    """All mutants of a file."""
    text = read_metadata(model, KEY)
    assert text is not None
    yield from with_metadata(_set_metadata, metadata_changes(text))
    yield from _tensors(model)
    yield from _grids(json.loads(text))
    yield from _operators(model)
    yield from _interface(model)
    yield from _model(model)


def _set_metadata(model: Any, text: str) -> None:
    entry = next(entry for entry in model.metadata if text_of(entry.name) == KEY)
    model.buffers[entry.buffer].data = np.frombuffer(text.encode(), np.uint8)


def _values(model: Any, tensor: Any) -> np.ndarray | None:
    """What a tensor stores, as it is stored."""
    fb = schema()
    data = model.buffers[tensor.buffer].data
    dtypes = {getattr(fb.TensorType, name): np.dtype(dtype) for dtype, name in TYPES.items()}
    return None if data is None else np.asarray(data, np.uint8).view(dtypes[tensor.type])


def _tensors(model: Any) -> Iterator[Mutant]:
    stored = []
    for number, tensor in enumerate(model.subgraphs[0].tensors):
        name = text_of(tensor.name)
        values = _values(model, tensor)
        if values is not None:
            stored.append(number)
            for place, changed in neighbours(values):
                change = partial(_set_data, number=number, values=changed)
                yield Mutant(f"{values.dtype} tensor", f"{name}{place}", change)
            if not np.array_equal(values, values[::-1]):
                change = partial(_set_data, number=number, values=values[::-1].copy())
                yield Mutant("tensor reversed", name, change)
        for key in ("type", "isVariable", "hasRank"):
            change = partial(_change_number, number=number, key=key)
            yield Mutant(f"tensor's {key}", name, change)
        for key in ("shape", "shapeSignature"):
            for index in range(len(getattr(tensor, key) if getattr(tensor, key) is not None else ())):
                yield Mutant(f"tensor's {key}", f"{name}[{index}]", partial(_grow, number=number, key=key, index=index))
        if tensor.shapeSignature is not None:
            yield Mutant("batch fixed", name, partial(_set_field, number=number, key="shapeSignature", value=None))
        yield Mutant("tensor renamed", name, partial(_set_field, number=number, key="name", value=f"{name}_other"))
        grid = tensor.quantization
        if grid is not None and grid.scale is not None:
            for place, changed in neighbours(np.asarray(grid.scale)):
                change = partial(_set_grid, number=number, key="scale", value=changed)
                yield Mutant("scale", f"{name}{place}", change)
            for place, changed in neighbours(np.asarray(grid.zeroPoint)):
                change = partial(_set_grid, number=number, key="zeroPoint", value=changed)
                yield Mutant("zero point", f"{name}{place}", change)
            change = partial(_set_grid, number=number, key="quantizedDimension", value=grid.quantizedDimension + 1)
            yield Mutant("quantized dimension", name, change)
            yield Mutant("grid left out", name, partial(_set_field, number=number, key="quantization", value=None))
        if tensor.sparsity is not None:
            last = tensor.sparsity.dimMetadata[-1]
            for key in ("arraySegments", "arrayIndices"):
                for place, changed in neighbours(np.asarray(getattr(last, key).values)):
                    change = partial(_set_positions, number=number, key=key, values=changed)
                    yield Mutant("sparse position", f"{name} {key}{place}", change)
    for first, second in pairwise(stored):
        tensors = model.subgraphs[0].tensors
        if tensors[first].buffer != tensors[second].buffer:
            names = f"{text_of(tensors[first].name)}, {text_of(tensors[second].name)}"
            yield Mutant("data swapped", names, partial(_swap_data, first=first, second=second))


def _set_data(model: Any, number: int, values: np.ndarray) -> None:
    """In a buffer of its own: equal data is stored once."""
    tensor = model.subgraphs[0].tensors[number]
    buffer = schema().BufferT()
    buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
    tensor.buffer = len(model.buffers)
    model.buffers.append(buffer)


def _change_number(model: Any, number: int, key: str) -> None:
    tensor = model.subgraphs[0].tensors[number]
    value = getattr(tensor, key)
    setattr(tensor, key, not value if isinstance(value, bool) else value + 1)


def _grow(model: Any, number: int, key: str, index: int) -> None:
    tensor = model.subgraphs[0].tensors[number]
    values = [int(size) for size in getattr(tensor, key)]
    values[index] += 2
    setattr(tensor, key, values)


def _set_field(model: Any, number: int, key: str, value: Any) -> None:
    setattr(model.subgraphs[0].tensors[number], key, value)


def _set_grid(model: Any, number: int, key: str, value: Any) -> None:
    setattr(model.subgraphs[0].tensors[number].quantization, key, value)


def _set_positions(model: Any, number: int, key: str, values: np.ndarray) -> None:
    getattr(model.subgraphs[0].tensors[number].sparsity.dimMetadata[-1], key).values = values


def _swap_data(model: Any, first: int, second: int) -> None:
    tensors = model.subgraphs[0].tensors
    tensors[first].buffer, tensors[second].buffer = tensors[second].buffer, tensors[first].buffer


def _grids(content: dict[str, Any]) -> Iterator[Mutant]:
    """Scale and zero point in tensors and metadata together."""
    for name, grid in content.get("activations", {}).items():
        for direction in (np.inf, -np.inf):
            scale = float(np.nextafter(np.float32(grid["scale"]), np.float32(direction)))
            yield Mutant(
                "scale in both", f"{name} {scale}", partial(_move, name=name, grid=grid | {"scale": scale}), strict=True
            )
        for step in (1, -1):
            if 0 <= grid["zero_point"] + step <= 255:
                moved = grid | {"zero_point": grid["zero_point"] + step}
                yield Mutant(
                    "zero point in both", f"{name} {step:+}", partial(_move, name=name, grid=moved), strict=True
                )


def _move(model: Any, name: str, grid: dict[str, Any]) -> None:
    for tensor in model.subgraphs[0].tensors:
        if text_of(tensor.name) == codes_name(name):
            tensor.quantization.scale = np.array([grid["scale"]], np.float32)
            tensor.quantization.zeroPoint = np.array([grid["zero_point"] + UINT8_TO_INT8], np.int64)
    content = json.loads(read_metadata(model, KEY) or "")
    content["activations"][name] = grid
    _set_metadata(model, json.dumps(content, separators=(",", ":"), sort_keys=True))


def _operators(model: Any) -> Iterator[Mutant]:
    fb = schema()
    kinds = {value: name for name, value in vars(fb.BuiltinOperator).items() if not name.startswith("_")}
    subgraph = model.subgraphs[0]
    for number, operator in enumerate(subgraph.operators):
        kind = kinds[model.operatorCodes[operator.opcodeIndex].builtinCode]
        place = f"{number} {kind}"
        for key, value in vars(operator.builtinOptions).items() if operator.builtinOptions is not None else ():
            for other in _others(value):
                yield Mutant(
                    f"option {key}", f"{place} {other}", partial(_set_option, number=number, key=key, value=other)
                )
        if operator.builtinOptions is not None:
            yield Mutant("options left out", place, partial(_drop_options, number=number))
        for index in range(len(model.operatorCodes)):
            if index != operator.opcodeIndex:
                yield Mutant("other operator", f"{place} {index}", partial(_set_kind, number=number, index=index))
        if len(operator.inputs) > 1:
            yield Mutant("operands swapped", place, partial(_swap_operands, number=number))
            yield Mutant("operand left out", place, partial(_drop_operand, number=number))
        for index in range(len(operator.inputs)):
            yield Mutant("operand", f"{place} {index}", partial(_next_operand, number=number, index=index))
        yield Mutant("operator removed", place, partial(_remove, number=number))
        for other in ("MUL", "RELU", "RELU6"):
            yield Mutant(f"{other} put in", f"behind {place}", partial(_put_in, number=number, code=other))
        if any(operand >= 0 and subgraph.tensors[operand].quantization is not None for operand in operator.inputs):
            yield Mutant("copy of another scale", place, partial(_copy_operand, number=number))
        if number and subgraph.operators[number - 1].outputs[0] not in list(operator.inputs):
            yield Mutant("operators in another order", place, partial(_swap_operators, number=number), strict=True)
    for index, code in enumerate(model.operatorCodes):
        yield Mutant(
            "version of an operator", f"{index} {kinds[code.builtinCode]}", partial(_raise_version, index=index)
        )


def _others(value: Any) -> list[Any]:
    if isinstance(value, bool | np.bool_):
        return [not value]
    if isinstance(value, int | np.integer):
        return [int(value) + step for step in (1, 2, 3, -1) if int(value) + step >= 0]
    if isinstance(value, float):
        return [value + 1, float(np.nextafter(np.float32(value), np.float32(9)))]
    return []


def _set_option(model: Any, number: int, key: str, value: Any) -> None:
    setattr(model.subgraphs[0].operators[number].builtinOptions, key, value)


def _drop_options(model: Any, number: int) -> None:
    operator = model.subgraphs[0].operators[number]
    operator.builtinOptions, operator.builtinOptionsType = None, 0


def _set_kind(model: Any, number: int, index: int) -> None:
    model.subgraphs[0].operators[number].opcodeIndex = index


def _operands(model: Any, number: int) -> list[int]:
    return [int(operand) for operand in model.subgraphs[0].operators[number].inputs]


def _swap_operands(model: Any, number: int) -> None:
    first, second, *rest = _operands(model, number)
    model.subgraphs[0].operators[number].inputs = [second, first, *rest]


def _drop_operand(model: Any, number: int) -> None:
    model.subgraphs[0].operators[number].inputs = _operands(model, number)[:-1]


def _next_operand(model: Any, number: int, index: int) -> None:
    operands = _operands(model, number)
    operands[index] = (operands[index] + 1) % len(model.subgraphs[0].tensors)
    model.subgraphs[0].operators[number].inputs = operands


def _remove(model: Any, number: int) -> None:
    """Remove an operator: what read its result takes its first operand."""
    subgraph = model.subgraphs[0]
    gone = subgraph.operators.pop(number)
    _redirect(subgraph, int(gone.outputs[0]), int(gone.inputs[0]))


def _redirect(subgraph: Any, source: int, target: int, start: int = 0) -> None:
    for operator in subgraph.operators[start:]:
        operator.inputs = [target if int(operand) == source else int(operand) for operand in operator.inputs]
    subgraph.outputs = [target if int(number) == source else int(number) for number in subgraph.outputs]


def _add_tensor(model: Any, like: int, name: str) -> int:
    tensors = model.subgraphs[0].tensors
    tensor = copy.copy(tensors[like])
    tensor.name = name
    tensors.append(tensor)
    return len(tensors) - 1


def _put_in(model: Any, number: int, code: str) -> None:
    """Put an operator behind another: MUL by itself, RELU, or RELU6."""
    subgraph = model.subgraphs[0]
    source = int(subgraph.operators[number].outputs[0])
    target = _add_tensor(model, source, "put_in")
    _redirect(subgraph, source, target, number + 1)
    model.operatorCodes.append(operator_code(code, 1))
    operator = schema().OperatorT()
    operator.opcodeIndex = len(model.operatorCodes) - 1
    operator.inputs, operator.outputs = [source, source] if code == "MUL" else [source], [target]
    subgraph.operators.insert(number + 1, operator)


def _copy_operand(model: Any, number: int) -> None:
    """The operator reads a copy of an operand, its last with a grid, whose scale is another."""
    operands = _operands(model, number)
    tensors = model.subgraphs[0].tensors
    index = max(i for i, operand in enumerate(operands) if operand >= 0 and tensors[operand].quantization is not None)
    copied = _add_tensor(model, operands[index], "copy")
    tensor = tensors[copied]
    tensor.quantization = copy.copy(tensor.quantization)
    tensor.quantization.scale = np.asarray(tensor.quantization.scale) * np.float32(1.0001)
    operands[index] = copied
    model.subgraphs[0].operators[number].inputs = operands


def _swap_operators(model: Any, number: int) -> None:
    operators = model.subgraphs[0].operators
    operators[number - 1], operators[number] = operators[number], operators[number - 1]


def _raise_version(model: Any, index: int) -> None:
    model.operatorCodes[index].version += 1


def _interface(model: Any) -> Iterator[Mutant]:
    signature = model.signatureDefs[0]
    for role in ("inputs", "outputs"):
        for index, entry in enumerate(getattr(signature, role)):
            name = f"{role} {text_of(entry.name)}"
            yield Mutant("signature's name", name, partial(_rename_entry, role=role, index=index))
            yield Mutant("signature's tensor", name, partial(_point_elsewhere, role=role, index=index))
            yield Mutant("signature's entry removed", name, partial(_remove_entry, role=role, index=index))
            yield Mutant("signature's entry twice", name, partial(_repeat_entry, role=role, index=index))
        for number in range(len(model.subgraphs[0].tensors)):
            if number not in [int(item) for item in getattr(model.subgraphs[0], role)]:
                change = partial(_interface_elsewhere, role=role, number=number)
                yield Mutant(f"other {role}", f"{number}", change)
    for name, change in {
        "key": lambda model: setattr(model.signatureDefs[0], "signatureKey", "other"),
        "subgraph": lambda model: setattr(model.signatureDefs[0], "subgraphIndex", 1),
        "removed": lambda model: setattr(model, "signatureDefs", []),
        "twice": lambda model: model.signatureDefs.append(model.signatureDefs[0]),
    }.items():
        yield Mutant("signature", name, change)


def _rename_entry(model: Any, role: str, index: int) -> None:
    getattr(model.signatureDefs[0], role)[index].name = "other"


def _point_elsewhere(model: Any, role: str, index: int) -> None:
    entry = getattr(model.signatureDefs[0], role)[index]
    entry.tensorIndex = (entry.tensorIndex + 1) % len(model.subgraphs[0].tensors)


def _remove_entry(model: Any, role: str, index: int) -> None:
    del getattr(model.signatureDefs[0], role)[index]


def _repeat_entry(model: Any, role: str, index: int) -> None:
    entries = getattr(model.signatureDefs[0], role)
    entries.append(copy.copy(entries[index]))
    entries[-1].name = "other"


def _interface_elsewhere(model: Any, role: str, number: int) -> None:
    """Another tensor in the subgraph and in its signature."""
    setattr(model.subgraphs[0], role, [number])
    getattr(model.signatureDefs[0], role)[0].tensorIndex = number


def _model(model: Any) -> Iterator[Mutant]:
    for name, change in {
        "description": lambda model: setattr(model, "description", "other"),
        "subgraph's name": lambda model: setattr(model.subgraphs[0], "name", "other"),
        "unused buffer": lambda model: model.buffers.append(schema().BufferT()),
        "unused kind of operator": lambda model: model.operatorCodes.append(operator_code("ADD", 1)),
        "other metadata": _add_metadata,
    }.items():
        yield Mutant("packaging", name, change, strict=True)
    for name, change in {
        "version": lambda model: setattr(model, "version", 2),
        "unused tensor": lambda model: _add_tensor(model, 0, "unused"),
        "second subgraph": lambda model: model.subgraphs.append(model.subgraphs[0]),
        "no operators": lambda model: setattr(model.subgraphs[0], "operators", []),
    }.items():
        yield Mutant("model", name, change)


def _add_metadata(model: Any) -> None:
    entry = schema().MetadataT()
    entry.name, entry.buffer = "licence", 0
    model.metadata.append(entry)
