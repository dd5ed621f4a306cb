"""This module reads an ONNX file as a flat mapping (export/parity/differences.py): any field is an entry."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from export.onnx.sessions import load_model
from export.onnx.stored_weight import external_files
from export.parity.differences import Flat, flatten, flatten_metadata, keyed

MESSAGE = 11
"""protobuf's number of fields that hold messages (`FieldDescriptor.TYPE_MESSAGE`)."""


def flat_file(path: Path) -> Flat:
    """Read a file into a flat mapping, its external data by the digest of each file.

    Raises:
        ExportError: Missing, or not an ONNX file.
    """
    model = load_model(path)
    flat: Flat = {}
    content = _plain(model)
    flatten_metadata({entry.key: entry.value for entry in model.metadata_props}, flat)
    content.pop("metadata_props", None)
    for file in external_files(model, path):
        flatten(file.read_bytes(), f"external data {file.name}", flat)
    for name, value in content.items():
        flatten(value, name, flat)
    return flat


def _plain(message: Any) -> dict[str, Any]:
    """Turn a message into plain values; unknown fields, which no reader takes, are left out."""
    return {field.name: _value(field, value) for field, value in message.ListFields()}


def _value(field: Any, value: Any) -> Any:
    if field.type != MESSAGE:
        return list(value) if field.is_repeated else value
    if not field.is_repeated:
        return _plain(value)
    items = [_plain(item) for item in value]
    # A node is told by what it makes: its place in the list is no property of it.
    made = [_by_output(item) if item.get("output") else item for item in items]
    named: list[tuple[Any, Mapping[str, Any]]] = keyed(made)
    if all(isinstance(key, str) for key, _ in named) and items:
        order = {"order": [key for key, _ in named]} if field.name == "node" else {}
        return {**{key: item for (key, _), item in zip(named, items, strict=True)}, **order}
    return items


def _by_output(node: dict[str, Any]) -> dict[str, Any]:
    """Give a node the name of what it makes; its own, which tools make up, is a field like any other."""
    return {**node, "label": node.get("name", ""), "name": node["output"][0]}
