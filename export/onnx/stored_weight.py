"""This module reads quantized weights from a file: codes, decoded by onnxruntime and held to their hash, and their
bytes.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from codeq.errors import first_line
from export.errors import ExportError
from export.metadata import WeightMetadata
from export.onnx.evaluate import ancestors, compute_values
from export.onnx.storage.decoder import DOMAIN
from export.onnx.storage.part import message_bytes
from export.onnx.vet import check_codes, check_model

MAX_STEPS = 4
"""From a weight to its codes; a damaged graph may go in circles."""
RECURRENT = ("RNN", "GRU", "LSTM")
FLOAT_TYPES = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
GROUP_BYTES = 4_000_000
"""Stored bytes of the weights that are decoded at a time."""
GROUP_CODES = 32_000_000
"""Their codes, which may be many more than bytes."""


def codes_names(model: onnx.ModelProto, weights: Iterable[WeightMetadata]) -> dict[str, str]:
    """Return the value of the codes behind each weight that the graph uses, by the weight's name; equal codes share
    one."""
    makers = {output: node for node in model.graph.node for output in node.output}
    names = {}
    for weight in weights:
        # On the paper's grid, values + shift * Sign(values) comes between.
        node = makers.get(weight.value_name or "")
        steps = 0
        while node is not None and node.op_type != "DequantizeLinear" and node.input and steps < MAX_STEPS:
            node, steps = makers.get(node.input[0]), steps + 1
        if node is not None and node.input:
            names[weight.name] = _as_stored(node.input[0], makers)
    return names


def _as_stored(codes: str, makers: Mapping[str, onnx.NodeProto]) -> str:
    """Follow codes that are read as uint8 (passes/unsigned_weights.py) back to the int8 ones."""
    name = codes
    for operator in ("Cast", "Add", "Cast"):
        node = makers.get(name)
        if node is None or node.op_type != operator or node.domain or not node.input:
            return codes
        if name == codes and [attribute.i for attribute in node.attribute] != [onnx.TensorProto.UINT8]:
            return codes
        name = node.input[0]
    return name


def read_codes(
    model: onnx.ModelProto, source: Path, weights: Sequence[WeightMetadata]
) -> Iterator[tuple[WeightMetadata, np.ndarray]]:
    """Read the codes of weights that the graph uses, int8, a few at a time.

    Args:
        model: The parsed file, external data left where it is.
        source: The file.
        weights: Of its metadata.

    Raises:
        ExportError: Codes are missing, cannot be decoded, or are not those that the file was written with.
    """
    dense = {tensor.name: tensor for tensor in model.graph.initializer}
    sparse = {tensor.values.name: tensor for tensor in model.graph.sparse_initializer}
    names = codes_names(model, weights)
    sizes = check_model(model, source, ours=True)
    used = [names[weight.name] for weight in weights if weight.value_name is not None and weight.name in names]
    check_codes((sizes[name].numel for name in used if name in sizes), model, source)
    waiting: list[WeightMetadata] = []
    size, codes = 0, 0

    def decode() -> Iterator[tuple[WeightMetadata, np.ndarray]]:
        wanted = sorted({names[weight.name] for weight in waiting})
        values = {name: _read_dense(dense[name], source) for name in wanted if name in dense}
        values |= {name: _read_sparse(sparse[name], source) for name in wanted if name in sparse}
        encoded = [name for name in wanted if name not in values]
        values |= compute_values(model, source, encoded, "disable_all", {})
        for weight in waiting:
            yield weight, _verified(values[names[weight.name]], weight, source)

    _check_decoders(model, source, names.values())
    for weight in weights:
        if weight.value_name is None:
            continue
        if names.get(weight.name) not in sizes:
            raise ExportError(f"{source}: has no codes of {weight.name}; was it changed after the export?")
        waiting.append(weight)
        size += stored_bytes(model.graph, names[weight.name])
        codes += sizes[names[weight.name]].numel
        if size >= GROUP_BYTES or codes >= GROUP_CODES:
            yield from decode()
            waiting, size, codes = [], 0, 0
    if waiting:
        yield from decode()


def _check_decoders(model: onnx.ModelProto, source: Path, codes: Iterable[str]) -> None:
    """See that every decoder belongs to a weight of the metadata."""
    known = {output for node in ancestors(model.graph, codes)[0] for output in node.output}
    for node in model.graph.node:
        if node.domain == DOMAIN and not known & set(node.output):
            raise ExportError(
                f"{source}: decodes {node.output[0]!r}, of which its metadata says nothing; it is damaged"
            )


def stored_bytes(graph: onnx.GraphProto, name: str) -> int:
    """Count the bytes of a weight's tensors and decoder calls in the file, external data included."""
    nodes, tensors, sparse = ancestors(graph, [name])
    own = [node for node in nodes if not is_shared(node)]
    return message_bytes([*own, *tensors, *sparse]) + sum(external_bytes(tensor) for tensor in tensors)


def float_weights(graph: onnx.GraphProto, quantized: Iterable[str]) -> dict[str, int]:
    """Return the float tensors of two or more dimensions, with their bytes in the file, external data included.

    They are the weights that stayed float: of layers left out, embeddings and recurrent layers. The biases of a
    recurrent operator, which have a dimension for its directions, are none; nor is what belongs to codes.

    Args:
        graph: Of a file.
        quantized: Names of its quantized weights.
    """
    biases = {node.input[3] for node in graph.node if node.op_type in RECURRENT and len(node.input) > 3}
    shifts = {f"{name}_shift" for name in quantized}
    return {
        tensor.name: message_bytes([tensor]) + external_bytes(tensor)
        for tensor in graph.initializer
        if tensor.data_type in FLOAT_TYPES and len(tensor.dims) >= 2 and tensor.name not in biases | shifts
    }


def external_bytes(tensor: onnx.TensorProto) -> int:
    """Count the bytes of a tensor in the file beside the model; 0 where it is in the model, or says no number."""
    lengths = [entry.value for entry in tensor.external_data if entry.key == "length"]
    return sum(int(length) for length in lengths if length.isdecimal())


def external_files(model: onnx.ModelProto, source: Path) -> list[Path]:
    """Return the files beside a model that hold its external data."""
    entries = [entry for tensor in model.graph.initializer for entry in tensor.external_data]
    return [source.parent / name for name in sorted({entry.value for entry in entries if entry.key == "location"})]


def default_opset(model: onnx.ModelProto, source: Path) -> int:
    """Return the version of ONNX's own operators that a file imports.

    Raises:
        ExportError: It imports none.
    """
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx"):
            return int(entry.version)
    raise ExportError(f"{source}: imports no operators of ONNX; it is damaged")


def is_shared(node: onnx.NodeProto) -> bool:
    """Say whether a decoder node serves all weights of the file."""
    return all(output.startswith("@") for output in node.output)


def _read_dense(tensor: onnx.TensorProto, source: Path) -> np.ndarray:
    try:
        return np.asarray(numpy_helper.to_array(tensor, base_dir=str(source.parent)))
    except Exception as error:  # onnx raises several types for damaged tensors and data files
        raise ExportError(f"{source}: {tensor.name} cannot be read ({first_line(error)})") from error


def _read_sparse(tensor: onnx.SparseTensorProto, source: Path) -> np.ndarray:
    """onnxruntime gives a sparse initializer to operators only, not as an output."""
    try:
        codes = np.zeros(tuple(tensor.dims), np.int8)
        codes.reshape(-1)[numpy_helper.to_array(tensor.indices)] = numpy_helper.to_array(tensor.values)
    except Exception as error:  # as above
        raise ExportError(f"{source}: {tensor.values.name} cannot be read ({first_line(error)})") from error
    return codes


def _verified(codes: np.ndarray, weight: WeightMetadata, source: Path) -> np.ndarray:
    digest = hashlib.sha256(np.ascontiguousarray(codes).tobytes()).hexdigest()
    if codes.dtype != np.int8 or digest != weight.codes_sha256:
        raise ExportError(
            f"{source}: the codes of {weight.name} are not those it was written with (their hash differs); "
            "the file is damaged: export it again"
        )
    return codes
