"""A mutant is a file that differs from the right one in one place; what all formats share, the metadata, is here."""

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

PER_TENSOR = 4
"""Elements of one tensor that are changed, one mutant each; the last one is among them."""


@dataclass(frozen=True)
class Mutant:
    """Says how a file is changed. `change` edits what a format's reader gives, in place.

    `strict` says that only a strict check fails: it changes nothing that is computed or fed, or as little as rounding.
    """

    kind: str
    place: str
    change: Callable[[Any], None]
    strict: bool = False

    @property
    def name(self) -> str:
        return f"{self.kind}: {self.place}"


def neighbours(values: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Copies of a tensor in which one element is its neighbour: the next float, or one more or less."""
    flat = values.reshape(-1)
    picked = sorted({*range(min(PER_TENSOR - 1, flat.size)), flat.size - 1}) if flat.size else []
    for index in picked:
        for sign in (1, -1):
            changed = flat.copy()
            if values.dtype.kind == "f":
                changed[index] = np.nextafter(flat[index], values.dtype.type(sign * np.inf))
            elif values.dtype.kind == "b":
                changed[index] = not flat[index]
            else:
                limits = np.iinfo(values.dtype)
                if not limits.min <= int(flat[index]) + sign <= limits.max:
                    continue
                changed[index] = int(flat[index]) + sign
            if values.dtype.kind != "b" or sign == 1:
                yield f"[{index}] {sign:+}", changed.reshape(values.shape)


def metadata_changes(text: str) -> Iterator[tuple[str, str, str, bool]]:
    """Changed entries of metadata: kind, place, the text, and whether only a strict check fails."""
    content = json.loads(text)

    def changed(*path: Any, value: Any) -> str:
        made = copy.deepcopy(content)
        at = made
        for key in path[:-1]:
            at = at[key]
        if value is REMOVED:
            del at[path[-1]]
        else:
            at[path[-1]] = value
        return json.dumps(made, separators=(",", ":"), sort_keys=True)

    for number, weight in enumerate(content["weights"]):
        for key, value in weight.items():
            for other in _others(value):
                yield (
                    f"weight's {key}",
                    f"{weight['name']} {other!r}"[-80:],
                    changed("weights", number, key, value=other),
                    False,
                )
        yield "weight forgotten", weight["name"], changed("weights", number, value=REMOVED), False
    for name, version in content["versions"].items():
        for other in (f"{version}.1", "0", REMOVED):
            yield "version", f"{name} {other}", changed("versions", name, value=other), True
    for key in ("checkpoint_sha256", "storage", "target"):
        for other in (*_others(content[key]), None):
            yield key, str(other), changed(key, value=other), key == "checkpoint_sha256"
    for name, numbers in content["preprocessing"].items():
        for index in range(len(numbers)):
            moved = [*numbers[:index], numbers[index] + 0.25, *numbers[index + 1 :]]
            yield "preprocessing", f"{name} {index}", changed("preprocessing", name, value=moved), False
        yield "preprocessing", f"{name} left out", changed("preprocessing", name, value=REMOVED), False
        yield "preprocessing", f"{name} longer", changed("preprocessing", name, value=[*numbers, 0.0]), False
    for key, value in content.get("session_options", {}).items():
        yield "session option", f"{key} left out", changed("session_options", value={}), False
        yield "session option", f"{key} changed", changed("session_options", key, value=str(1 - int(value))), False
        other = "session.disable_quant_qdq"
        if key != other:
            yield "session option", other, changed("session_options", other, value="1"), False
    for key in content.get("layout") or {}:
        for other in _others(content["layout"][key]):
            yield "layout", f"{key} {other!r}"[:60], changed("layout", key, value=other), False
    for key in ("weights", "activations"):
        for name, value in (content.get("layout") or {}).get(key, {}).items():
            for other in _others(value):
                yield f"layout of {key}", f"{name} {other!r}"[:60], changed("layout", key, name, value=other), False
    for name, grid in content.get("activations", {}).items():
        for other in _others(grid["zero_point"]):
            yield (
                "recorded zero point",
                f"{name} {other}",
                changed("activations", name, "zero_point", value=other),
                False,
            )
        for direction in (np.inf, -np.inf):
            scale = float(np.nextafter(np.float32(grid["scale"]), np.float32(direction)))
            yield "recorded scale", f"{name} {scale}", changed("activations", name, "scale", value=scale), False
        yield "grid forgotten", name, changed("activations", name, value=REMOVED), False
    for option, value in {"storage": "dense", "opset": 18, "target": "portable", "sparse": "off", "int4": True}.items():
        made = {**content.get("options", {}), option: value}
        yield "option", f"{made}", changed("options", value=made), False
    if "options" in content:
        yield "option", "none", changed("options", value={}), False
    yield "option", "of the base", changed("options", value={"force": True}), False
    for key, value in content.get("calibration", {}).items():
        for other in ("given", "learned", "min-max", 7, REMOVED):
            if other != value and (key != "cpu" or other != "learned"):
                yield f"calibration's {key}", str(other), changed("calibration", key, value=other), False
    if "activations" in content:
        given = {"source": "given", "ranges": "mse"}
        yield "calibration", "as given", changed("calibration", value=given), False
        yield "calibration", "left out", changed("calibration", value=REMOVED), False
        yield "activations_except", "a layer", changed("activations_except", value=["first"]), False
        yield "activations_too_wide", "a layer", changed("activations_too_wide", value={"first": "too wide"}), False
        yield "activations", "left out", changed("activations", value=REMOVED), False
    yield "materialized", "true", changed("materialized", value=True), False
    verdict = {"ok": False, "first_failure": "output differs"}
    yield "mismatch", "recorded", changed("parity", value=verdict), True
    yield "format_version", "older", changed("format_version", value=1), False
    yield "unknown entry", "added", changed("other", value=1), False
    yield "text of metadata", "with blanks", json.dumps(content), True


REMOVED = type("Removed", (), {"__str__": lambda self: "removed", "__repr__": lambda self: "removed"})()


def _others(value: Any) -> list[Any]:
    """Other values of the same kind."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value - 1]
    if isinstance(value, str):
        return [value[:-1] + ("0" if value[-1:] != "0" else "1"), f"{value}x"]
    if isinstance(value, list):
        return [value[::-1]] if value != value[::-1] else []
    if value is None:
        return [0, "first"]
    return []


def with_metadata(change: Callable[..., None], texts: Iterator[tuple[str, str, str, bool]]) -> Iterator[Mutant]:
    """Mutants of a format whose metadata `change(model, text=...)` replaces."""
    for kind, place, text, strict in texts:
        yield Mutant(kind, place, partial(change, text=text), strict)
