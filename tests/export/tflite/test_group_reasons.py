"""One line per reason."""

from export.tflite.group_reasons import group_reasons


def test_names_share_a_line() -> None:
    assert group_reasons({"a": "too long", "b": "odd", "c": "too long"}) == ["a, c: too long", "b: odd"]


def test_many_names_are_counted() -> None:
    assert group_reasons(dict.fromkeys("abcde", "odd")) == ["a, b, c, ... (5 in all): odd"]
