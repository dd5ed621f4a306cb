"""Two files are compared as plain values: each backend gives what a file holds as nested dictionaries, and what differs
becomes a line that says where.

    initializer fc.bias values: 1 of 10 differ, the first at 3: found 0.25, expected 0.5
"""

import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from codeq.toolkit.text import printable
from export.metadata import write_metadata

SHOWN_CHARACTERS = 80
"""Of a value in a line."""
DEEPEST = 100
"""Levels that are looked into; what lies deeper is compared as a whole."""

Fails = Literal["always", "same versions", "strict"]


@dataclass(frozen=True)
class Difference:
    """Describes one place where a file is not what it should be.

    Attributes:
        text: One line.
        fails: When it is a failure: "strict" where that was asked for (packaging: versions, order, form), "same
            versions" also where the packages that are installed wrote the file, or "always".
    """

    text: str
    fails: Fails = "same versions"


@dataclass(frozen=True)
class FileComparison:
    """Says how a file differs from what this package writes for its network.

    Attributes:
        differences: All of them.
        notes: What could not be compared, and why.
        same_versions: The packages that wrote the file are those installed now.
        strict: Every difference is a failure.
        compared: Whether the file could be written anew.
    """

    differences: tuple[Difference, ...] = ()
    notes: tuple[str, ...] = ()
    same_versions: bool = True
    strict: bool = False
    compared: bool = True

    def is_failure(self, difference: Difference) -> bool:
        """Say whether the contract does not hold because of a difference."""
        return self.strict or difference.fails == "always" or (difference.fails != "strict" and self.same_versions)

    @property
    def first_failure(self) -> str:
        """Return one line, empty where nothing fails."""
        return next((item.text for item in self.differences if self.is_failure(item)), "")


@dataclass(frozen=True)
class Packaging:
    """Marks values that say nothing about what a file computes."""

    value: Any


@dataclass(frozen=True)
class Order:
    """Marks the order of named things, which is packaging, and compared only where both files have the same ones."""

    names: tuple[str, ...]


def by_name(items: Iterable[tuple[str, Any]]) -> tuple[dict[str, Any], Order]:
    """Give named things by their names, one that comes again with its number, and their order."""
    found: dict[str, Any] = {}
    for name, value in items:
        key, number = name, 1
        while key in found:
            number += 1
            key = f"{name} ({number})"
        found[key] = value
    return found, Order(tuple(found))


def describe_metadata(text: str) -> Any:
    """Give the metadata entry of a file as plain values, versions as packaging."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if isinstance(content, dict):
        form = "as it is written" if write_metadata(content) == text else "another"
        content |= {"form": Packaging(form), "versions": Packaging(content.get("versions"))}
    return content


def differences(found: Any, expected: Any) -> list[Difference]:
    """Compare what two files hold.

    Args:
        found: Dictionaries, lists, arrays, `Packaging`, `Order` and plain values, nested.
        expected: The same of the file as it should be.
    """
    walk = _Walk()
    walk.compare(found, expected, (), packaging=False)
    return walk.differences


@dataclass
class _Walk:
    differences: list[Difference] = field(default_factory=list)

    def compare(self, found: Any, expected: Any, place: tuple[str, ...], *, packaging: bool) -> None:
        if isinstance(found, Packaging) or isinstance(expected, Packaging):
            found, expected = (part.value if isinstance(part, Packaging) else part for part in (found, expected))
            packaging = True
        if isinstance(found, Order) and isinstance(expected, Order):
            if found != expected and sorted(found.names) == sorted(expected.names):
                self.add(place, "another order than expected", packaging=True)
        elif isinstance(found, dict) and isinstance(expected, dict) and len(place) < DEEPEST:
            for key in (*expected, *(key for key in found if key not in expected)):
                inner = (*place, key)
                if key not in found:
                    if not isinstance(expected[key], Order):
                        is_packaging = packaging or isinstance(expected[key], Packaging)
                        self.add(inner, f"is missing, expected {_show(expected[key])}", packaging=is_packaging)
                elif key not in expected:
                    is_packaging = packaging or isinstance(found[key], Packaging)
                    self.add(inner, f"is {_show(found[key])}, and not expected", packaging=is_packaging)
                else:
                    self.compare(found[key], expected[key], inner, packaging=packaging)
        elif isinstance(found, list) and isinstance(expected, list) and any(map(_is_nested, (*found, *expected))):
            if len(found) != len(expected):
                self.add(place, f"{len(found)} of them, expected {len(expected)}", packaging=packaging)
            for number, (ours, theirs) in enumerate(zip(found, expected, strict=False)):
                self.compare(ours, theirs, (*place, str(number)), packaging=packaging)
        elif isinstance(found, np.ndarray) and isinstance(expected, np.ndarray):
            reason = _compare_arrays(found, expected)
            if reason:
                self.add(place, reason, packaging=packaging)
        elif not _is_equal(found, expected):
            self.add(place, f"found {_show(found)}, expected {_show(expected)}", packaging=packaging)

    def add(self, place: tuple[str, ...], text: str, *, packaging: bool) -> None:
        where = " ".join(printable(part, SHOWN_CHARACTERS) for part in place)
        self.differences.append(Difference(f"{where}: {text}", "strict" if packaging else "same versions"))


def _is_nested(value: Any) -> bool:
    return isinstance(value, dict | list | np.ndarray | Packaging | Order)


def _compare_arrays(found: np.ndarray, expected: np.ndarray) -> str:
    """What differs, bit for bit; empty where nothing does."""
    kinds = [f"{array.dtype} {list(array.shape)}" for array in (found, expected)]
    if kinds[0] != kinds[1]:
        return f"found {kinds[0]}, expected {kinds[1]}"
    if found.tobytes() == expected.tobytes():
        return ""
    rows = [np.ascontiguousarray(array).reshape(-1) for array in (found, expected)]
    bits = [array.view(np.uint8).reshape(array.size, -1) for array in rows]
    differ = np.flatnonzero((bits[0] != bits[1]).any(1))
    ours, theirs = (_show(array[differ[0]].item()) for array in rows)
    return f"{len(differ):,} of {found.size:,} differ, the first at {differ[0]}: found {ours}, expected {theirs}"


def _is_equal(found: Any, expected: Any) -> bool:
    if type(found) is not type(expected):
        return False
    if isinstance(found, float):
        return struct.pack("d", found) == struct.pack("d", expected)
    if isinstance(found, list):
        return len(found) == len(expected) and all(map(_is_equal, found, expected))
    return bool(found == expected)


def _show(value: Any) -> str:
    if isinstance(value, Packaging):
        return _show(value.value)
    if isinstance(value, dict | Order):
        count = len(value.names if isinstance(value, Order) else value)
        return f"{count} entries" if count != 1 else "one entry"
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    if isinstance(value, list):
        inner = ", ".join(map(_show, value[:8]))
        return f"[{inner}{', ...' if len(value) > 8 else ''}]"
    return printable(repr(value) if not isinstance(value, str) else f"'{value}'", SHOWN_CHARACTERS)
