"""Check that what a .tflite file says fits together: numbers of tensors, data, grids, positions of sparse ones, order.

Before LiteRT and before our own readers, which take all of that for granted. What an operator makes of its operands is
checked by LiteRT when it opens the file.
"""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from codeq.toolkit.text import printable
from export.errors import ExportError
from export.tflite.file.operands import check_operands
from export.tflite.file.sparse import check_positions
from export.tflite.runtime import schema

SCHEMA_VERSION = 3
BITS = {
    **dict.fromkeys(("INT2",), 2),
    **dict.fromkeys(("INT4", "UINT4"), 4),
    **dict.fromkeys(("INT8", "UINT8", "BOOL", "FLOAT8_E4M3FN", "FLOAT8_E5M2"), 8),
    **dict.fromkeys(("INT16", "UINT16", "FLOAT16", "BFLOAT16"), 16),
    **dict.fromkeys(("INT32", "UINT32", "FLOAT32"), 32),
    **dict.fromkeys(("INT64", "UINT64", "FLOAT64", "COMPLEX64"), 64),
    **dict.fromkeys(("COMPLEX128",), 128),
}
"""Bits of an element by the schema's name of its type; types without a fixed size are missing."""
HIGHEST_RANK = 8
MOST_ELEMENTS = 2**31 - 1
"""Elements of one tensor."""
SPARE_BYTES = 2**28
"""What constants may take beyond twice the file's size, once zeros are put back and shared data is copied."""


def check_semantics(model: Any, file_bytes: int) -> None:
    """Check a file's content.

    Args:
        model: The schema's `ModelT` of a file whose structure was checked.
        file_bytes: The file's size.

    Raises:
        ExportError: What is wrong, and where.
    """
    if model.version != SCHEMA_VERSION:
        raise ExportError(f"version {model.version} of the schema, expected {SCHEMA_VERSION}")
    if not model.subgraphs or not model.buffers or model.operatorCodes is None:
        raise ExportError("it lacks subgraphs, buffers or kinds of operators")
    if model.externalBuffers or model.externalBufferGroups:
        raise ExportError("it keeps data in other files")
    for entry in model.metadata or ():
        _check_index(entry.buffer, model.buffers, f"the buffer of metadata {_shown(entry.name)}")
    names = {value: name for name, value in vars(schema().BuiltinOperator).items() if not name.startswith("_")}
    codes = [names.get(max(code.builtinCode, code.deprecatedBuiltinCode), "") for code in model.operatorCodes]
    if "" in codes:
        raise ExportError(f"kind {codes.index('')} of operators is none that LiteRT knows")
    limit = 2 * file_bytes + SPARE_BYTES
    total = 0
    for index, subgraph in enumerate(model.subgraphs):
        where = "" if len(model.subgraphs) == 1 else f"subgraph {index}: "
        try:
            for tensor in subgraph.tensors or ():
                total += _check_tensor(model, tensor)
                if total > limit:
                    raise ExportError(f"constants of more than {limit:,} bytes, in a file of {file_bytes:,}")
            if not index and not _indices(subgraph.outputs):
                raise ExportError("it has no outputs")
            _check_graph(model, subgraph, codes)
        except ExportError as error:
            raise ExportError(f"{where}{error}") from error
    _check_calls(model, codes)
    for signature in model.signatureDefs or ():
        what = f"signature {_shown(signature.signatureKey)}"
        _check_index(signature.subgraphIndex, model.subgraphs, f"the subgraph of {what}")
        tensors = model.subgraphs[signature.subgraphIndex].tensors or ()
        for entry in (*(signature.inputs or ()), *(signature.outputs or ())):
            _check_index(entry.tensorIndex, tensors, f"{what}: tensor {_shown(entry.name)}")


def _shown(name: Any) -> str:
    if name is None:
        return "without a name"
    return repr(printable(name.decode(errors="replace") if isinstance(name, bytes) else str(name), 80))


def _check_index(index: int, items: Any, what: str) -> None:
    if not 0 <= index < len(items):
        raise ExportError(f"{what} is number {index}, of {len(items)}")


def _check_tensor(model: Any, tensor: Any) -> int:
    """Check a tensor by itself; the bytes that its data takes where it is read."""
    name = _shown(tensor.name)
    fb = schema()
    types = {value: key for key, value in vars(fb.TensorType).items() if not key.startswith("_")}
    if tensor.type not in types:
        raise ExportError(f"tensor {name} is of the unknown type {tensor.type}")
    _check_index(tensor.buffer, model.buffers, f"the buffer of tensor {name}")
    shape = _sizes(tensor.shape, f"the shape of tensor {name}", smallest=0)
    signature = _sizes(tensor.shapeSignature, f"the shape_signature of tensor {name}", smallest=-1)
    if signature and len(signature) != len(shape):
        raise ExportError(f"tensor {name} has shape {shape} and shape_signature {signature}")
    for sub in tensor.variantTensors or ():
        _sizes(sub.shape, f"a shape in tensor {name}", smallest=-1)
    count = math.prod(shape)
    if count > MOST_ELEMENTS:
        raise ExportError(f"tensor {name} of shape {shape} has more than {MOST_ELEMENTS:,} elements")
    if tensor.quantization is not None:
        _check_grid(tensor.quantization, shape, name)
    data = model.buffers[tensor.buffer].data
    has_data = data is not None and len(data) > 0
    if tensor.isVariable and has_data:
        raise ExportError(f"tensor {name} is a variable that has data")
    if tensor.sparsity is not None:
        if not has_data:
            raise ExportError(f"tensor {name} is sparse and has no data")
        if types[tensor.type] not in ("FLOAT32", "FLOAT16", "INT8"):
            raise ExportError(f"tensor {name} is sparse and {types[tensor.type]}, expected FLOAT32, FLOAT16 or INT8")
        size = BITS[types[tensor.type]] // 8
        try:
            check_positions(tensor.sparsity, shape, len(data) / size)
        except ValueError as error:
            raise ExportError(f"tensor {name}: {error}") from error
        return count * size
    if not has_data or types[tensor.type] not in BITS:
        return 0
    expected = (count * BITS[types[tensor.type]] + 7) // 8
    if len(data) != expected:
        raise ExportError(
            f"tensor {name} of shape {shape} and type {types[tensor.type]} takes {expected} bytes, its buffer has "
            f"{len(data)}"
        )
    return max(expected, count)


def _sizes(values: Any, what: str, smallest: int) -> list[int]:
    sizes = [] if values is None else [int(size) for size in values[: HIGHEST_RANK + 1]]
    if len(sizes) > HIGHEST_RANK:
        raise ExportError(f"{what} has {len(values)} dimensions, more than {HIGHEST_RANK}")
    if any(size < smallest for size in sizes):
        raise ExportError(f"{what} is {sizes}")
    return sizes


def _check_grid(grid: Any, shape: list[int], name: str) -> None:
    scales = 0 if grid.scale is None else len(grid.scale)
    zeros = 0 if grid.zeroPoint is None else len(grid.zeroPoint)
    if zeros not in (scales, 0 if not scales else 1, 0):
        raise ExportError(f"tensor {name} has {scales} scales and {zeros} zero points")
    if not scales:
        return
    if not zeros:
        raise ExportError(f"tensor {name} has {scales} scales and no zero point")
    if scales > 1:
        axis = grid.quantizedDimension
        if not 0 <= axis < len(shape):
            raise ExportError(f"tensor {name} of shape {shape} is quantized along axis {axis}")
        if shape[axis] != scales:
            raise ExportError(f"tensor {name} of shape {shape} has {scales} scales along axis {axis}")
    values = np.asarray(grid.scale)
    if not (np.isfinite(values).all() and (values >= 0).all()):
        raise ExportError(f"tensor {name} has a scale of {values[~(np.isfinite(values) & (values >= 0))][0]}")
    zero_points = np.asarray(grid.zeroPoint)
    if zero_points.min() < -(2**31) or zero_points.max() >= 2**31:
        raise ExportError(f"tensor {name} has a zero point of more than 32 bits")


def _check_graph(model: Any, subgraph: Any, codes: list[str]) -> None:
    """Check the operators of a subgraph: every tensor is there before it is read, and written once."""
    tensors = subgraph.tensors or []
    inputs, outputs = _indices(subgraph.inputs), _indices(subgraph.outputs)
    for what, numbers in (("an input", inputs), ("an output", outputs)):
        for number in numbers:
            _check_index(number, tensors, what)
    if len(set(inputs)) != len(inputs):
        raise ExportError("a tensor is an input twice")
    constants = {
        number
        for number, tensor in enumerate(tensors)
        if len(() if model.buffers[tensor.buffer].data is None else model.buffers[tensor.buffer].data)
        or 0 in _indices(tensor.shape)
    }
    for number in inputs:
        if number in constants or tensors[number].isVariable:
            raise ExportError(f"tensor {_shown(tensors[number].name)} is an input that the file holds")
    held = {number for number, tensor in enumerate(tensors) if tensor.isVariable}
    ready = {*inputs, *constants, *held}
    for index, operator in enumerate(subgraph.operators or ()):
        _check_index(operator.opcodeIndex, codes, f"the kind of operator {index}")
        what = f"operator {index} ({codes[operator.opcodeIndex]})"
        operands = _indices(operator.inputs)
        for number in (*operands, *_indices(operator.intermediates)):
            if number != -1:
                _check_index(number, tensors, f"{what}: an operand")
        for number in operands:
            if number not in ready and number != -1:
                raise ExportError(f"{what}: reads tensor {_shown(tensors[number].name)} before anything computes it")
        results = _indices(operator.outputs)
        for number in results:
            _check_index(number, tensors, f"{what}: a result")
            if number in ready:
                raise ExportError(f"{what}: writes tensor {_shown(tensors[number].name)}, which is there already")
            ready.add(number)
        try:
            check_operands(model, subgraph, operator, codes[operator.opcodeIndex])
        except ExportError as error:
            raise ExportError(f"{what}: {error}") from error
    for number in outputs:
        if number not in ready:
            raise ExportError(f"tensor {_shown(tensors[number].name)} is an output that nothing computes")


def _indices(values: Any) -> list[int]:
    return [] if values is None else [int(value) for value in values]


def _check_calls(model: Any, codes: list[str]) -> None:
    """See that no subgraph ends up calling itself."""
    calls: dict[int, set[int]] = {}
    for index, subgraph in enumerate(model.subgraphs):
        calls[index] = set()
        for operator in subgraph.operators or ():
            for called in _called(operator):
                _check_index(called, model.subgraphs, f"the subgraph that {codes[operator.opcodeIndex]} calls")
                calls[index].add(called)
    while calls:
        ends = [index for index, called in calls.items() if not called & calls.keys()]
        if not ends:
            raise ExportError(f"subgraph {min(calls)} calls itself")
        for index in ends:
            del calls[index]


def _called(operator: Any) -> Iterable[int]:
    for options in (operator.builtinOptions, operator.builtinOptions2):
        for name, value in () if options is None else vars(options).items():
            if name.lower().endswith(("subgraphindex", "subgraph")):
                yield int(value)
            elif name.lower().endswith("subgraphindices"):
                yield from _indices(value)
