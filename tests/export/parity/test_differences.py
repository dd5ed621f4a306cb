"""Flat mappings of files by hand, and in what they differ."""

from typing import Any

import numpy as np
import pytest

from export.metadata import KEY
from export.parity.differences import Difference, Flat, compare, flatten, flatten_metadata

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    ("value", "flat"),
    [
        ({"a": 1, "b": {"c": [1, 2]}}, {"x.a": "1", "x.b.c": "[1, 2]"}),
        ([{"name": "n", "v": 1}, {"name": "m", "v": 2}], {"x[n].name": "'n'", "x[n].v": "1", "x[m].name": "'m'", "x[m].v": "2"}),
        ([{"v": 1}, {"v": 2}], {"x[0].v": "1", "x[1].v": "2"}),
        ({}, {"x": "{}"}),
        (b"\x00\x01", {"x": "2 bytes, sha256 b413f47d13ee2fe6"}),
        (np.arange(3), {"x": "[0, 1, 2]"}),
    ],
)  # fmt: skip
def test_every_part_has_its_place(value: Any, flat: Flat) -> None:
    found: Flat = {}
    flatten(value, "x", found)
    assert found == flat


def test_arrays_of_any_size_are_told_apart() -> None:
    one: Flat = {}
    flatten({"a": np.zeros(100, np.int8), "b": np.zeros(100, np.uint8), "c": np.ones(100, np.int8)}, "x", one)
    assert len(set(one.values())) == 3


def test_metadata_of_ours_is_compared_field_by_field() -> None:
    flat: Flat = {}
    flatten_metadata({KEY: '{"versions": {"torch": "2"}}', "other": "{text", KEY + "2": "[1"}, flat)
    assert flat == {f"metadata {KEY}.versions.torch": "'2'", "metadata other": "'{text'", f"metadata {KEY}2": "'[1'"}


def test_differences_are_listed_with_both_sides() -> None:
    found = compare({"a": "1", "b": "\x1b[2J", "d": "4"}, {"a": "1", "b": "2", "c": "3"})
    assert found == (Difference("b", "\x1b[2J", "2"), Difference("c", "nothing", "3"), Difference("d", "4", "nothing"))
    assert str(found[0]) == r"b: \x1b[2J, expected 2"
