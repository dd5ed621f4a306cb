"""Text of a file reaches a terminal in one line, escaped and cut."""

import pytest

from codeq.toolkit.text import escape, printable

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("conv1.weight", "conv1.weight"),
        ("größe 重み", "größe 重み"),
        ("\x1b[2Jok", r"\x1b[2Jok"),
        ("a\nb\r\tc\x00", r"a\nb\r\tc\x00"),
        ("\u202egnp", r"\u202egnp"),
        ("\ud800", r"\ud800"),
        ("\U000e0041", r"\U000e0041"),
        ("\x9b2J", r"\x9b2J"),
        ("it's", "it's"),
        ("", ""),
    ],
    ids=["plain", "letters", "escape", "controls", "bidi", "surrogate", "tag", "C1", "quote", "empty"],
)
def test_what_is_shown(text: str, shown: str) -> None:
    assert printable(text) == shown
    shown.encode()


@pytest.mark.parametrize(("text", "limit", "shown"), [("abcdef", 6, "abcdef"), ("abcdefg", 6, "abc..."), ("a", 0, "")])
def test_what_is_cut(text: str, limit: int, shown: str) -> None:
    assert printable(text, limit) == shown


def test_the_limit_counts_escapes() -> None:
    assert printable("\n" * 10_000_000, 9) == r"\n\n\n..."
    assert len(printable("\x00" * 1000)) <= 200


def test_lines_and_tabs_stay_where_several_lines_are_meant() -> None:
    assert escape("a\n\tb\r\x07\u202e\ud800") == "a\n\tb\\r\\x07\\u202e\\ud800"


def test_every_character_that_is_left_can_be_printed() -> None:
    unsafe = [chr(code) for code in range(0x110000) if escape(chr(code)) == chr(code) and not chr(code).isprintable()]
    # What Python does not print either: wide spaces, private and unassigned characters, but no control.
    assert not [c for c in unsafe if c not in "\n\t" and (ord(c) < 0xA0 or 0x202A <= ord(c) <= 0x202E)]
