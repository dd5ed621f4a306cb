"""What a file says about itself comes back as it was written, and damage is one line."""

import contextlib
import dataclasses
import json
from typing import Any

import pytest

from codeq.activations.encoding import ActivationEncoding
from export.errors import ExportError
from export.metadata import (
    FORMAT_VERSION,
    KEY,
    FileMetadata,
    WeightMetadata,
    metadata_props,
    mismatch_lines,
    parse_metadata,
    with_mismatch,
)

pytestmark = pytest.mark.quick

WEIGHT = WeightMetadata("fc.weight", "fc.weight", "bn", 0, 4, 7, 1, 2, False, "ab")
FILE = FileMetadata(
    (WEIGHT,),
    "cd",
    {"mean": [0.5]},
    {"codeq": "?"},
    {"input": ActivationEncoding(0.5, 3)},
    ("fc",),
    "packed",
    "portable",
    options={"opset": 17},
    calibration={"source": "given", "ranges": "mse"},
)


def text(**changes: Any) -> str:
    values = {field.name: getattr(FILE, field.name) for field in dataclasses.fields(FILE)} | changes
    values.pop("mismatch"), values.pop("materialized")
    return metadata_props(values.pop("weights"), **values)[KEY]


def test_it_comes_back() -> None:
    assert parse_metadata(text(), "net") == FILE
    options: dict[str, Any] = {"session_options": {"a": "1"}, "layout": {"io": "nhwc"}, "activations": None}
    options |= {"activations_except": (), "calibration": {}}
    assert parse_metadata(text(**options), "net") == dataclasses.replace(FILE, **options)
    wide = {"activations_too_wide": {"add": "too wide"}}
    assert parse_metadata(text(**wide), "net") == dataclasses.replace(FILE, **wide)


def test_our_own_version_is_in_it() -> None:
    from codeq import __version__

    assert parse_metadata(text(versions={"torch": "2"}), "net").versions == {"codeq": __version__, "torch": "2"}


def test_a_newer_file_is_refused() -> None:
    newer = json.dumps(json.loads(text()) | {"format_version": FORMAT_VERSION + 1})
    with pytest.raises(ExportError, match=r"^net: metadata version 3 is newer than 2; upgrade codeq$"):
        parse_metadata(newer, "net")


@pytest.mark.parametrize(
    "change",
    [
        {"weights": 3},
        {"weights": [{"name": "x"}]},
        {"weights": [dataclasses.asdict(WEIGHT) | {"bit_width": "4"}]},
        {"weights": [dataclasses.asdict(WEIGHT) | {"space_to_depth": [2, 0]}]},
        {"activations": {"input": {"scale": -1.0, "zero_point": 0}}},
        {"format_version": "two"},
        {"preprocessing": []},
        {"session_options": ["a"]},
        {"options": ["opset"]},
        {"calibration": "given"},
        {"calibration": {"source": "given"}},
        {"calibration": {"source": "elsewhere", "ranges": "mse"}},
        {"calibration": {"source": "learned", "ranges": "mse"}},
        {"calibration": {"source": "checkpoint", "ranges": "mse", "cpu": "AVX2", "threads": True}},
        {"calibration": {"source": "given", "ranges": "mse"}, "activations": None},
    ],
)
def test_damage_is_one_line(change: dict[str, Any]) -> None:
    with pytest.raises(ExportError, match=r"^net: its 'codeq' metadata is damaged") as raised:
        parse_metadata(json.dumps(json.loads(text()) | change), "net")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("damaged", ["", "[]", "{}", "{"])
def test_what_is_no_metadata(damaged: str) -> None:
    with pytest.raises(ExportError, match="is damaged"):
        parse_metadata(damaged, "net")


def test_a_mismatch_is_added_and_nothing_else_changes() -> None:
    marked = with_mismatch(text(), "y at basic, batch 1: argmax differs in 1 places")
    assert parse_metadata(marked, "net") == dataclasses.replace(
        parse_metadata(text(), "net"), mismatch="y at basic, batch 1: argmax differs in 1 places"
    )
    assert json.loads(marked)["parity"]["ok"] is False
    assert mismatch_lines("") == []
    assert mismatch_lines("off by 1") == ["parity    does not hold, published all the same: off by 1"]


@pytest.mark.parametrize("entry", [3, [], {"first_failure": 3}, None])
def test_a_damaged_verdict_is_no_traceback(entry: Any) -> None:
    with contextlib.suppress(ExportError):
        parse_metadata(json.dumps(json.loads(text()) | {"parity": entry}), "net")
