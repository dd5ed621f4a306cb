"""This module gives all that a .tflite file holds as plain values, so that two files can be compared.

Tensors go by their names, operators by the name of their first result, and data by what it says: numbers of tensors,
buffers and kinds of operators are packaging.
"""

from typing import Any

import numpy as np

from export.metadata import KEY
from export.parity.differences import Packaging, by_name, describe_metadata
from export.tflite.file.flatbuffer import TYPES, text_of
from export.tflite.runtime import schema

RESOLVED = frozenset({"operatorCodes", "buffers", "metadata", "metadataBuffer", "subgraphs", "signatureDefs"})
"""Fields of a model that are described apart."""


def content_of(model: Any) -> dict[str, Any]:
    """Give what a file holds.

    Args:
        model: The schema's `ModelT`.
    """
    texts = {text_of(entry.name): _buffer(model, entry.buffer) for entry in model.metadata or []}
    own = texts.pop(KEY, None)
    subgraphs = list(model.subgraphs or [])
    found = {key: _plain(value) for key, value in vars(model).items() if key not in RESOLVED}
    return {
        "metadata": None if own is None else describe_metadata(own.tobytes().decode(errors="replace")),
        "other metadata": {key: Packaging(value) for key, value in texts.items()},
        **found,
        "description": Packaging(_plain(model.description)),
        "subgraphs": [_subgraph(model, subgraph) for subgraph in subgraphs],
        "signatures": [_signature(subgraphs, signature) for signature in model.signatureDefs or []],
        "kinds of operators": Packaging([_plain(code) for code in model.operatorCodes or []]),
        "buffers": Packaging(len(model.buffers or [])),
    }


def _subgraph(model: Any, subgraph: Any) -> dict[str, Any]:
    labels = _labels(subgraph)
    tensors = {label: _tensor(model, tensor) for label, tensor in zip(labels, subgraph.tensors or [], strict=True)}
    operators, order = by_name(
        (_first_result(labels, operator), _operator(model, labels, operator)) for operator in subgraph.operators or []
    )
    rest = {key: _plain(value) for key, value in vars(subgraph).items() if key not in ("tensors", "operators")}
    return {
        **rest,
        "name": Packaging(_plain(subgraph.name)),
        "inputs": [_label(labels, number) for number in _numbers(subgraph.inputs)],
        "outputs": [_label(labels, number) for number in _numbers(subgraph.outputs)],
        "tensor": tensors,
        "tensors in order": by_name((label, None) for label in labels)[1],
        "operator": operators,
        "operators in order": order,
    }


def _labels(subgraph: Any) -> list[str]:
    """The names of tensors by number."""
    return list(by_name((text_of(tensor.name), None) for tensor in subgraph.tensors or [])[0])


def _first_result(labels: list[str], operator: Any) -> str:
    numbers = _numbers(operator.outputs)
    return str(_label(labels, numbers[0])) if numbers else "nothing"


def _label(labels: list[str], number: Any) -> str | None:
    if number == -1:
        return None
    return labels[number] if 0 <= number < len(labels) else f"number {number}, which there is not"


def _tensor(model: Any, tensor: Any) -> dict[str, Any]:
    found = {key: _plain(value) for key, value in vars(tensor).items() if key not in ("name", "buffer")}
    data = _buffer(model, tensor.buffer)
    fb = schema()
    dtypes = {getattr(fb.TensorType, name): np.dtype(dtype) for dtype, name in TYPES.items()}
    dtype = dtypes.get(tensor.type)
    if dtype is not None and data.size % dtype.itemsize == 0:
        data = data.view(dtype)
    return found | {"data": data}


def _operator(model: Any, labels: list[str], operator: Any) -> dict[str, Any]:
    found = {key: _plain(value) for key, value in vars(operator).items() if key != "opcodeIndex"}
    codes = model.operatorCodes or []
    number = operator.opcodeIndex
    found["kind"] = _plain(codes[number]) if 0 <= number < len(codes) else f"number {number}, which there is not"
    for key in ("inputs", "outputs", "intermediates"):
        found[key] = [_label(labels, number) for number in _numbers(getattr(operator, key))]
    return found


def _signature(subgraphs: list[Any], signature: Any) -> dict[str, Any]:
    found = {key: _plain(value) for key, value in vars(signature).items() if key not in ("inputs", "outputs")}
    number = signature.subgraphIndex
    labels = _labels(subgraphs[number]) if 0 <= number < len(subgraphs) else []
    for key in ("inputs", "outputs"):
        entries = ((text_of(entry.name), _label(labels, entry.tensorIndex)) for entry in getattr(signature, key) or [])
        found[key], found[f"{key} in order"] = by_name(entries)
    return found


def _buffer(model: Any, number: int) -> np.ndarray:
    buffers = model.buffers or []
    data = buffers[number].data if 0 <= number < len(buffers) else None
    return np.frombuffer(b"" if data is None else np.asarray(data, np.uint8).tobytes(), np.uint8)


def _numbers(vector: Any) -> list[int]:
    return [] if vector is None else [int(number) for number in vector]


def _plain(value: Any) -> Any:
    """Give a table of the schema, or a vector, as plain values."""
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return {"table": type(value).__name__, **{key: _plain(item) for key, item in vars(value).items()}}
