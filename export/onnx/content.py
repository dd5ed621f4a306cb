"""This module gives all that an ONNX file holds as plain values, so that two files can be compared.

Named things are found by their names, nodes by their first output: what is put in between moves nothing else.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from export.metadata import KEY
from export.parity.differences import Packaging, by_name, describe_metadata

NAMES: Mapping[str, Callable[[Any], str]] = {
    "initializer": lambda item: item.name,
    "sparse_initializer": lambda item: item.values.name,
    "node": lambda item: item.output[0] if item.output else item.name,
    "attribute": lambda item: item.name,
    "opset_import": lambda item: item.domain,
    "functions": lambda item: f"{item.domain}:{item.name}:{item.overload}",
    "value_info": lambda item: item.name,
    "metadata_props": lambda item: item.key,
}
"""Repeated fields whose entries have names."""
PACKAGING = frozenset(
    {
        ("ModelProto", "producer_name"),
        ("ModelProto", "producer_version"),
        ("GraphProto", "name"),
        ("GraphProto", "value_info"),
        ("GraphProto", "metadata_props"),
        ("NodeProto", "name"),
        ("NodeProto", "metadata_props"),
        ("FunctionProto", "value_info"),
        ("FunctionProto", "metadata_props"),
        ("ValueInfoProto", "metadata_props"),
        ("TensorProto", "metadata_props"),
    }
)
"""Fields that say nothing about what is computed, beside every doc_string."""


def content_of(model: onnx.ModelProto, path: Path) -> dict[str, Any]:
    """Give what a model holds.

    Args:
        model: The parsed file.
        path: Where it is: its external data is beside it.
    """
    found = _message(model, path)
    props = {entry.key: entry.value for entry in model.metadata_props}
    own = describe_metadata(props[KEY]) if KEY in props else None
    others = {key: Packaging(value) for key, value in props.items() if key != KEY}
    for name in ("metadata_props", "metadata_props in order"):
        found.pop(name, None)
    return {"metadata": own, "other metadata": others, **found}


def _message(message: Any, path: Path) -> dict[str, Any]:
    kind = message.DESCRIPTOR.name
    if kind == "TensorProto":
        return _tensor(message, path)
    found: dict[str, Any] = {}
    for field, value in message.ListFields():
        name = field.name
        content: Any
        if name in NAMES and field.message_type is not None:
            named, order = by_name((NAMES[name](item), _plain(item, path)) for item in value)
            content, found[f"{name} in order"] = named, order
        elif field.message_type is None:
            content = value if isinstance(value, bytes | str | int | float) else list(value)
        else:
            content = _message(value, path) if hasattr(value, "ListFields") else [_plain(item, path) for item in value]
        found[name] = Packaging(content) if name == "doc_string" or (kind, name) in PACKAGING else content
    return found


def _plain(value: Any, path: Path) -> Any:
    return _message(value, path) if hasattr(value, "ListFields") else value


def _tensor(tensor: onnx.TensorProto, path: Path) -> dict[str, Any]:
    """A tensor by its values: where its bytes are is packaging."""
    form = "external" if tensor.external_data else "raw" if tensor.HasField("raw_data") else "typed"
    try:
        values: Any = numpy_helper.to_array(tensor, str(path.parent))
    except Exception:  # onnx and numpy raise several types for tensors whose sizes contradict each other
        values = tensor.SerializeToString(deterministic=True)
    if isinstance(values, np.ndarray) and values.dtype == object:  # texts
        values = values.tolist()
    return {
        "name": tensor.name,
        "type": tensor.data_type,
        "values": np.asarray(values) if isinstance(values, np.ndarray | np.generic) else values,
        "form": Packaging(form),
        "doc_string": Packaging(tensor.doc_string),
        "metadata_props": Packaging([f"{entry.key}={entry.value}" for entry in tensor.metadata_props]),
    }
