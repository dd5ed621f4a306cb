"""What differs between two files is a line that says where, whatever text they hold."""

from typing import Any

import numpy as np
import pytest

from export.parity.differences import Difference, FileComparison, Order, Packaging, by_name, differences

pytestmark = pytest.mark.quick

ULP = np.array([1, 2, np.nextafter(np.float32(3), np.float32(4))], np.float32)


@pytest.mark.parametrize(
    ("found", "expected", "lines"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, ["a: found 1, expected 2"]),
        ({"a": 1}, {"a": True}, ["a: found 1, expected True"]),
        ({"a": 0.0}, {"a": -0.0}, ["a: found 0.0, expected -0.0"]),
        ({"a": float("nan")}, {"a": float("nan")}, []),
        ({"a": [1, 2]}, {"a": [1, 3]}, ["a: found [1, 2], expected [1, 3]"]),
        ({"a": [{"b": 1}]}, {"a": [{"b": 2}]}, ["a 0 b: found 1, expected 2"]),
        ({"a": [{"b": 1}, {}]}, {"a": [{"b": 1}]}, ["a: 2 of them, expected 1"]),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}, ["a c: is 2, and not expected"]),
        ({"a": {}}, {"a": {"b": {"c": 1}}}, ["a b: is missing, expected one entry"]),
        (
            {"a": ULP},
            {"a": np.array([1, 2, 3], np.float32)},
            ["a: 1 of 3 differ, the first at 2: found 3.000000238418579, expected 3.0"],
        ),
        ({"a": ULP}, {"a": ULP[:2]}, ["a: found float32 [3], expected float32 [2]"]),
        (
            {"a": np.float32([0])},
            {"a": np.float32([-0.0])},
            ["a: 1 of 1 differ, the first at 0: found 0.0, expected -0.0"],
        ),
        ({"a": ULP}, {"a": None}, ["a: found float32 [3], expected None"]),
        ({"a\x1b[2J": 1}, {"a\x1b[2J": "\x07" * 200}, ["a\\x1b[2J: found 1, expected '\\x07\\x07"]),
    ],
    ids=str,
)
def test_lines(found: Any, expected: Any, lines: list[str]) -> None:
    shown = differences(found, expected)
    assert [item.text[: len(line)] for item, line in zip(shown, lines, strict=True)] == lines
    assert all(len(item.text.splitlines()) == 1 and item.text.isprintable() for item in shown)
    assert all(item.fails == "same versions" for item in shown)


def test_packaging_fails_where_that_is_asked_for() -> None:
    found = {"a": Packaging({"b": 1}), "c": Packaging(1), "d": Order(("x", "y")), "e": Order(("x",))}
    expected = {"a": Packaging({"b": 2}), "d": Order(("y", "x")), "e": Order(("y",)), "f": Packaging(1)}
    shown = differences(found, expected)
    assert [item.text for item in shown] == [
        "a b: found 1, expected 2",
        "d: another order than expected",
        "f: is missing, expected 1",
        "c: is 1, and not expected",
    ]
    assert {item.fails for item in shown} == {"strict"}


@pytest.mark.parametrize(
    ("fails", "same_versions", "strict", "failure"),
    [
        ("always", False, False, True),
        ("same versions", True, False, True),
        ("same versions", False, False, False),
        ("same versions", False, True, True),
        ("strict", True, False, False),
        ("strict", True, True, True),
    ],
)
def test_what_fails(fails: Any, same_versions: bool, strict: bool, failure: bool) -> None:
    comparison = FileComparison((Difference("a", fails),), same_versions=same_versions, strict=strict)
    assert bool(comparison.first_failure) == failure


def test_names_that_come_again() -> None:
    assert by_name([("a", 1), ("b", 2), ("a", 3)]) == ({"a": 1, "b": 2, "a (2)": 3}, Order(("a", "b", "a (2)")))
