"""What files say, as a terminal may see it."""

import pytest

from codeq.toolkit.text import escape, printable

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("conv1.weight", "conv1.weight"),
        ("größe 日本", "größe 日本"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\u202ex\ud800\x9b", "\\u202ex\\ud800\\x9b"),
        ("x" * 21, "x" * 17 + "..."),
        ("\x00" * 10, "\\x00\\x00\\x00\\x00\\..."),
    ],
)
def test_in_one_line(text: str, shown: str) -> None:
    assert printable(text, 20) == shown


def test_lines_and_tabs_stay_where_several_lines_are_meant() -> None:
    assert escape("a\n\tb\r\x07") == "a\n\tb\\r\\x07"


def test_every_character_that_is_left_can_be_printed() -> None:
    unsafe = [chr(code) for code in range(0x110000) if escape(chr(code)) == chr(code) and not chr(code).isprintable()]
    # What Python does not print either: wide spaces, private and unassigned characters, but no control.
    assert not [c for c in unsafe if c not in "\n\t" and (ord(c) < 0xA0 or 0x202A <= ord(c) <= 0x202E)]
