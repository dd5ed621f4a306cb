"""Two files are compared entry by entry: each as a flat mapping, from where in it to what is there, as text."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from codeq.toolkit.text import printable
from export.metadata import KEY

SHOWN = 80
"""Characters of a value in a message."""
ABSENT = "nothing"

Flat = dict[str, str]


@dataclass(frozen=True)
class Difference:
    """Says where a file is not what was expected, what it has there and what was expected."""

    where: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"{printable(self.where)}: {printable(self.found, SHOWN)}, expected {printable(self.expected, SHOWN)}"


def compare(found: Mapping[str, str], expected: Mapping[str, str]) -> tuple[Difference, ...]:
    """List the entries in which two files differ, those of the expected file first, in its order."""
    names = dict.fromkeys([*expected, *found])
    pairs = ((name, found.get(name, ABSENT), expected.get(name, ABSENT)) for name in names)
    return tuple(Difference(name, one, other) for name, one, other in pairs if one != other)


def flatten(value: Any, where: str, flat: Flat) -> None:
    """Add a value of plain types to a flat mapping; bytes and arrays by their digest."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            flatten(item, f"{where}.{key}", flat)
        if not value:
            flat[where] = "{}"
    elif isinstance(value, list | tuple) and any(isinstance(item, Mapping | list | tuple) for item in value):
        for key, item in keyed(value):
            flatten(item, f"{where}[{key}]", flat)
    elif isinstance(value, bytes | bytearray):
        flat[where] = f"{len(value)} bytes, sha256 {hashlib.sha256(value).hexdigest()[:16]}"
    elif isinstance(value, np.ndarray) and value.size > 16:
        flat[where] = f"{value.dtype} {value.shape}, sha256 {hashlib.sha256(value.tobytes()).hexdigest()[:16]}"
    else:
        flat[where] = repr(value.tolist() if isinstance(value, np.ndarray) else value)


def keyed(values: Iterable[Any]) -> list[tuple[Any, Any]]:
    """Give entries of a list the name that each has, where these are there and differ, and its position else."""
    items = list(values)
    names = [item.get("name") if isinstance(item, Mapping) else None for item in items]
    named = all(isinstance(name, str) and name for name in names) and len(set(names)) == len(names)
    return list(zip(names if named else range(len(items)), items, strict=True))


def flatten_metadata(entries: Mapping[str, str], flat: Flat) -> None:
    """Add the metadata of a file: ours by its fields, as one difference in it says little about where it is."""
    for key, text in entries.items():
        value: Any = text
        if key == KEY:
            with suppress(ValueError):  # a text like any other
                value = json.loads(text)
        flatten(value, f"metadata {key}", flat)
