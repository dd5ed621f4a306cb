"""Change a .tflite file that another converter wrote: constants become computed, inputs and outputs get names."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from export.errors import ExportError
from export.tflite.file.flatbuffer import (
    SIGNATURE,
    TYPES,
    AlignedBuffer,
    align_buffers,
    operator_code,
    pack_model,
    read,
    set_options,
)
from export.tflite.file.graph import TensorGrid
from export.tflite.runtime import schema


class ModelEditor:
    """Holds a file of one subgraph while it is changed; an `ExportError` says what else it is."""

    def __init__(self, data: bytes) -> None:
        self._model = read(data)
        if len(self._model.subgraphs) != 1:
            raise ExportError(f"the converted file has {len(self._model.subgraphs)} subgraphs, expected one")
        self._graph = self._model.subgraphs[0]
        self._model.buffers = align_buffers(self._model)
        self._added: list[Any] = []
        self._kinds: dict[tuple[str, int], int] = {}
        self._size = len(data)

    def rename(self, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Name what goes in and out, in the order of the file's signature, which becomes `serving_default`."""
        (signature,) = self._model.signatureDefs
        signature.signatureKey = SIGNATURE
        for entries, names in ((signature.inputs, inputs), (signature.outputs, outputs)):
            for entry, name in zip(entries, names, strict=True):
                entry.name = name
                self.rename_tensor(entry.tensorIndex, name)

    def rename_tensor(self, number: int, name: str) -> None:
        """Give a tensor a name."""
        self._graph.tensors[number].name = name

    def constants(self) -> dict[int, np.ndarray]:
        """Give stored float32 data by the number of its tensor."""
        found = {}
        for number, tensor in enumerate(self._graph.tensors):
            data = self._model.buffers[tensor.buffer].data
            if data and tensor.type == schema().TensorType.FLOAT32:
                found[number] = np.frombuffer(data, np.float32).reshape([] if tensor.shape is None else tensor.shape)
        return found

    def add_tensor(
        self, name: str, shape: Sequence[int], data: np.ndarray | None = None, quantization: TensorGrid | None = None
    ) -> int:
        """Append a tensor, float32 where it is computed; its number."""
        fb = schema()
        table = fb.TensorT()
        table.name, table.shape, table.hasRank = name, list(shape), True
        table.type = getattr(fb.TensorType, TYPES["float32" if data is None else str(data.dtype)])
        table.buffer = 0
        if data is not None:
            table.buffer = len(self._model.buffers)
            self._model.buffers.append(AlignedBuffer(data.tobytes()))
            self._size += data.nbytes
        if quantization is not None:
            table.quantization = fb.QuantizationParametersT()
            table.quantization.scale = quantization.scale
            table.quantization.zeroPoint = np.full(quantization.scale.shape, quantization.zero_point, np.int64)
            table.quantization.quantizedDimension = quantization.axis
        self._graph.tensors.append(table)
        return len(self._graph.tensors) - 1

    def compute(self, code: str, version: int, inputs: Sequence[int], output: int) -> None:
        """Compute a tensor, in front of the file's own operators; what it stored goes."""
        table = schema().OperatorT()
        if (code, version) not in self._kinds:
            self._kinds[code, version] = len(self._model.operatorCodes)
            self._model.operatorCodes.append(operator_code(code, version))
        table.opcodeIndex = self._kinds[code, version]
        table.inputs, table.outputs = list(inputs), [output]
        set_options(table, code, {})
        self._graph.tensors[output].buffer = 0
        self._added.append(table)

    def operators(self) -> list[str]:
        """List the schema's names of all operators, in the order of execution."""
        fb = schema()
        names = {value: name for name, value in vars(fb.BuiltinOperator).items() if not name.startswith("_")}
        codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in self._model.operatorCodes]
        return [names[codes[operator.opcodeIndex]] for operator in (*self._added, *self._graph.operators)]

    def pack(self, metadata: Mapping[str, str]) -> bytes:
        """Give the bytes of the changed file, with further texts by name, without data that nothing uses any more."""
        fb = schema()
        self._graph.operators = [*self._added, *self._graph.operators]
        self._added = []
        for name, text in metadata.items():
            entry = fb.MetadataT()
            entry.name, entry.buffer = name, len(self._model.buffers)
            self._model.buffers.append(AlignedBuffer(text.encode()))
            self._model.metadata = [*(self._model.metadata or []), entry]
        used = {tensor.buffer for tensor in self._graph.tensors} | {entry.buffer for entry in self._model.metadata}
        self._model.buffers = [
            buffer if number in used else AlignedBuffer(b"") for number, buffer in enumerate(self._model.buffers)
        ]
        return pack_model(self._model, self._size)
