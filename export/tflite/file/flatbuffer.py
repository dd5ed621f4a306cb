"""Turn graphs into the bytes of a .tflite file, the same every time. Data of tensors is aligned to 16 bytes.

Equal data and equal grids are stored once. Source: the TFLite schema (version 3), through the classes that LiteRT
generates from it.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from export.errors import ExportError
from export.tflite.file.graph import Graph, Tensor, TensorGrid
from export.tflite.file.identifier import IDENTIFIER
from export.tflite.file.nibbles import pack, unpack
from export.tflite.file.operator_versions import OPERATORS
from export.tflite.file.sparse import CompressedRows, compress
from export.tflite.runtime import flatbuffers, schema

SCHEMA_VERSION = 3
ALIGNMENT = 16
LIMIT = 2**31 - 1
"""Bytes of a flatbuffer: its offsets are signed 32-bit numbers."""
SIGNATURE = "serving_default"
DESCRIPTION = "codeq"
"""Of the files that are written here."""
TYPES = {
    "float32": "FLOAT32",
    "int32": "INT32",
    "int64": "INT64",
    "int8": "INT8",
    "uint8": "UINT8",
    "bool": "BOOL",
}
"""numpy's names of types to the schema's."""
INDEX_VECTORS = {"uint8": "Uint8Vector", "uint16": "Uint16Vector", "int32": "Int32Vector"}
"""numpy's names of the types of positions to the schema's."""


class AlignedBuffer:
    """Packs as the schema's `BufferT`, whose generated code ignores the alignment that the schema demands."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def Pack(self, builder: Any) -> Any:
        fb = schema()
        if self.data:
            builder.StartVector(1, len(self.data), ALIGNMENT)
            builder.head = builder.head - len(self.data)
            builder.Bytes[builder.head : builder.head + len(self.data)] = self.data
            vector = builder.EndVector()
        fb.BufferStart(builder)
        if self.data:
            fb.BufferAddData(builder, vector)
        return fb.BufferEnd(builder)


class _Grids:
    """Packs grids of tensors: equal tables and equal zero points of channels once, where they are first met."""

    def __init__(self) -> None:
        self.tables: dict[TensorGrid, int] = {}
        self.zero_points: dict[tuple[int, int], int] = {}

    def pack(self, quantization: TensorGrid, builder: Any) -> int:
        if quantization not in self.tables:
            self.tables[quantization] = self._pack(quantization, builder)
        return self.tables[quantization]

    def _pack(self, quantization: TensorGrid, builder: Any) -> int:
        fb = schema()
        key = (quantization.zero_point, len(quantization.scale))
        if key not in self.zero_points:
            self.zero_points[key] = builder.CreateNumpyVector(np.full(key[1], key[0], np.int64))
        scale = builder.CreateNumpyVector(quantization.scale.astype(np.float32))
        fb.QuantizationParametersStart(builder)
        fb.QuantizationParametersAddScale(builder, scale)
        fb.QuantizationParametersAddZeroPoint(builder, self.zero_points[key])
        fb.QuantizationParametersAddQuantizedDimension(builder, quantization.axis)
        return int(fb.QuantizationParametersEnd(builder))


@dataclass(frozen=True)
class _Grid:
    """Packs as the schema's `QuantizationParametersT`, one of `grids`."""

    quantization: TensorGrid
    grids: _Grids

    def Pack(self, builder: Any) -> int:
        return self.grids.pack(self.quantization, builder)


class _Buffers:
    """Holds data by number; number 0 is empty, for tensors that are computed. Positions of sparse ones lie outside."""

    def __init__(self) -> None:
        self.numbers: dict[bytes, int] = {b"": 0}
        self.position_bytes = 0

    def add(self, data: bytes) -> int:
        """Add data, or find equal data; its number."""
        return self.numbers.setdefault(data, len(self.numbers))

    def tables(self) -> list[AlignedBuffer]:
        return [AlignedBuffer(data) for data in self.numbers]


def write(graph: Graph, metadata: Mapping[str, str]) -> bytes:
    """Write a graph as the bytes of a file.

    Args:
        graph: One subgraph, with the signature `serving_default` of its inputs and outputs.
        metadata: Texts by name.

    Raises:
        ExportError: The file would pass 2 GB.
    """
    fb = schema()
    buffers = _Buffers()
    model = fb.ModelT()
    model.version = SCHEMA_VERSION
    model.description = DESCRIPTION
    kinds = sorted({(operator.code, operator.version) for operator in graph.operators})
    model.operatorCodes = [operator_code(code, version) for code, version in kinds]
    subgraph = fb.SubGraphT()
    subgraph.name = "main"
    grids = _Grids()
    subgraph.tensors = [_tensor(tensor, buffers, grids) for tensor in graph.tensors]
    subgraph.inputs = list(graph.inputs.values())
    subgraph.outputs = list(graph.outputs.values())
    subgraph.operators = []
    for operator in graph.operators:
        table = fb.OperatorT()
        table.opcodeIndex = kinds.index((operator.code, operator.version))
        table.inputs, table.outputs = list(operator.inputs), list(operator.outputs)
        set_options(table, operator.code, operator.options)
        subgraph.operators.append(table)
    model.subgraphs = [subgraph]
    signature = fb.SignatureDefT()
    signature.signatureKey = SIGNATURE
    signature.inputs = [_entry(name, number) for name, number in graph.inputs.items()]
    signature.outputs = [_entry(name, number) for name, number in graph.outputs.items()]
    model.signatureDefs = [signature]
    model.metadata = []
    for name, text in metadata.items():
        entry = fb.MetadataT()
        entry.name, entry.buffer = name, buffers.add(text.encode())
        model.metadata.append(entry)
    model.buffers = buffers.tables()
    size = sum(len(data) for data in buffers.numbers) + buffers.position_bytes
    if size > LIMIT:
        raise ExportError(f"the file would take {size:,} bytes; a .tflite file ends at {LIMIT:,}")
    return pack_model(model, size)


def read(data: bytes) -> Any:
    """Read a file as the schema's `ModelT`.

    Raises:
        ExportError: It is no .tflite file.
    """
    fb = schema()
    if data[4:8] != IDENTIFIER:
        raise ExportError("it is no .tflite file: it does not begin as one")
    return fb.ModelT.InitFromPackedBuf(data, 0)


def has_metadata(model: Any, name: str) -> bool:
    """Say whether a file holds anything under a name."""
    return _find_metadata(model, name) is not None


def read_metadata(model: Any, name: str) -> str | None:
    """Find the text that a file holds under a name; None where it has none.

    Raises:
        UnicodeDecodeError: It is no text.
    """
    entry = _find_metadata(model, name)
    return None if entry is None else bytes(model.buffers[entry.buffer].data).decode()


def _find_metadata(model: Any, name: str) -> Any:
    return next((entry for entry in model.metadata or [] if entry.name in (name, name.encode())), None)


def with_outputs(data: bytes, names: list[str], *, widened: Collection[str] = ()) -> bytes:
    """Copy a file and let its outputs be followed by further tensors, for a look inside.

    Args:
        data: The file.
        names: Of the tensors.
        widened: Those of them that come as int32 (CAST keeps codes as they are), for a runtime that gives out no int8.

    Raises:
        ExportError: The file has no such tensor.
    """
    model = read(data)
    subgraph = model.subgraphs[0]
    numbers = {text_of(tensor.name): number for number, tensor in enumerate(subgraph.tensors)}
    missing = [name for name in names if name not in numbers]
    if missing:
        raise ExportError(f"the file has no tensor {missing[0]!r}")
    cast = _cast(model, {numbers[name] for name in names if name in widened})
    shown = [cast.get(numbers[name], numbers[name]) for name in names]
    subgraph.outputs = [*map(int, subgraph.outputs), *shown]
    model.signatureDefs = []
    model.buffers = align_buffers(model)
    return pack_model(model, len(data))


def _cast(model: Any, numbers: set[int]) -> dict[int, int]:
    """Add a CAST to int32 of some tensors behind a graph; the number of each one's result."""
    if not numbers:
        return {}
    fb = schema()
    subgraph = model.subgraphs[0]
    model.operatorCodes.append(operator_code("CAST", OPERATORS["CAST"].float_version))
    results = {}
    for number in sorted(numbers):
        tensor, cast = fb.TensorT(), fb.OperatorT()
        source = subgraph.tensors[number]
        tensor.name, tensor.type = f"{text_of(source.name)}/int32", fb.TensorType.INT32
        tensor.shape, tensor.shapeSignature = source.shape, source.shapeSignature
        results[number] = len(subgraph.tensors)
        subgraph.tensors.append(tensor)
        cast.opcodeIndex, cast.inputs, cast.outputs = len(model.operatorCodes) - 1, [number], [results[number]]
        set_options(cast, "CAST", {"inDataType": source.type, "outDataType": fb.TensorType.INT32})
        subgraph.operators.append(cast)
    return results


def with_metadata(data: bytes, name: str, change: Callable[[str], str]) -> bytes:
    """Copy a file and change the text that it holds under a name."""
    model = read(data)
    model.buffers = align_buffers(model)
    for entry in model.metadata:
        if text_of(entry.name) == name:
            buffer = model.buffers[entry.buffer]
            buffer.data = change(buffer.data.decode()).encode()
    return pack_model(model, len(data))


def align_buffers(model: Any) -> list[AlignedBuffer]:
    """Give the data of a file that was read, as it must be packed."""
    return [
        AlignedBuffer(b"" if buffer.data is None else np.asarray(buffer.data, np.uint8).tobytes())
        for buffer in model.buffers
    ]


def tensors_by_name(model: Any) -> dict[str, tuple[np.ndarray | None, Any]]:
    """Read what a file stores under each tensor's name: its data, dense (None where computed), and its `TensorT`.

    Raises:
        ExportError: The positions of a sparse tensor contradict each other.
    """
    found = {}
    for tensor in model.subgraphs[0].tensors:
        raw = model.buffers[tensor.buffer].data
        name = text_of(tensor.name)
        try:
            found[name] = (None if raw is None else _dense(tensor, np.asarray(raw, np.uint8)), tensor)
        except ValueError as error:
            raise ExportError(f"{name}: {error}; the file is damaged") from error
    return found


def _dense(tensor: Any, raw: np.ndarray) -> np.ndarray:
    fb = schema()
    shape = () if tensor.shape is None else tuple(int(size) for size in tensor.shape)
    if tensor.type == fb.TensorType.INT4:
        return unpack(raw, shape)
    types = {getattr(fb.TensorType, name): np.dtype(dtype) for dtype, name in TYPES.items()}
    values = np.frombuffer(raw.tobytes(), types[tensor.type])
    if tensor.sparsity is None:
        return values.reshape(shape)
    order = tuple(int(axis) for axis in tensor.sparsity.traversalOrder)
    rows = tensor.sparsity.dimMetadata[-1]
    segments, indices = (np.asarray(vector.values) for vector in (rows.arraySegments, rows.arrayIndices))
    return CompressedRows(shape, order, values, segments, indices).restore()


def text_of(value: Any) -> str:
    """Decode a text of the schema, which comes as bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)


def pack_model(model: Any, size: int) -> bytes:
    """Pack a `ModelT` into bytes; `size` is about how many."""
    builder = flatbuffers().Builder(size + size // 8 + 4096)
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def operator_code(code: str, version: int) -> Any:
    """Make the schema's table of an operator's kind."""
    fb = schema()
    table = fb.OperatorCodeT()
    table.builtinCode = getattr(fb.BuiltinOperator, code)
    # Runtimes before 2020 read one byte only.
    table.deprecatedBuiltinCode = min(table.builtinCode, fb.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES)
    table.version = version
    return table


def set_options(operator: Any, code: str, options: Mapping[str, Any]) -> None:
    """Give an operator's table its options."""
    fb = schema()
    name = OPERATORS[code].options
    if not name:
        assert not options, code
        return
    table = getattr(fb, f"{name}T")()
    for key, value in options.items():
        assert hasattr(table, key), f"{code} has no option {key}"
        setattr(table, key, value)
    operator.builtinOptionsType, operator.builtinOptions = getattr(fb.BuiltinOptions, name), table


def _tensor(tensor: Tensor, buffers: _Buffers, grids: _Grids) -> Any:
    fb = schema()
    table = fb.TensorT()
    table.name = tensor.name
    table.shape = list(tensor.shape)
    table.hasRank = True
    if tensor.open_batch:
        table.shapeSignature = [-1 if axis in tensor.open_batch else size for axis, size in enumerate(tensor.shape)]
    table.type = fb.TensorType.INT4 if tensor.form == "int4" else getattr(fb.TensorType, TYPES[str(tensor.dtype)])
    data = tensor.data
    if data is not None and tensor.form == "int4":
        data = pack(data)
    elif data is not None and tensor.form == "csr":
        rows = compress(data)
        table.sparsity, data = _sparsity(rows), rows.values
        buffers.position_bytes += rows.nbytes - rows.values.nbytes
    table.buffer = 0 if data is None else buffers.add(np.ascontiguousarray(data).tobytes())
    if tensor.quantization is not None:
        table.quantization = _Grid(tensor.quantization, grids)
    return table


def _sparsity(rows: CompressedRows) -> Any:
    fb = schema()
    table = fb.SparsityParametersT()
    table.traversalOrder = list(rows.order)
    table.dimMetadata = []
    for axis in rows.order:
        dimension = fb.DimensionMetadataT()
        dimension.format, dimension.denseSize = fb.DimensionType.DENSE, rows.shape[axis]
        table.dimMetadata.append(dimension)
    last = table.dimMetadata[-1]
    last.format, last.denseSize = fb.DimensionType.SPARSE_CSR, 0
    last.arraySegmentsType, last.arraySegments = _index_vector(rows.segments)
    last.arrayIndicesType, last.arrayIndices = _index_vector(rows.indices)
    return table


def _index_vector(values: np.ndarray) -> tuple[int, Any]:
    fb = schema()
    name = INDEX_VECTORS[str(values.dtype)]
    table = getattr(fb, f"{name}T")()
    table.values = values
    return getattr(fb.SparseIndexVector, name), table


def _entry(name: str, number: int) -> Any:
    table = schema().TensorMapT()
    table.name, table.tensorIndex = name, number
    return table
