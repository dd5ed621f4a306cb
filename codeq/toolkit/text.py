"""This module makes text that was read from a file fit for a terminal: control characters, bidi overrides and lone
surrogates become escapes, and what is too long is cut.
"""

import re

UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What moves the cursor, clears the screen, turns a line around or cannot be encoded; not tabs and ends of lines."""
CUT = "..."
"""It stands where text was cut."""


def escape(text: str) -> str:
    """Replace what a terminal would act on by how Python writes it; tabs, and ends of lines that are meant, stay."""
    return UNSAFE.sub(lambda found: ascii(found[0])[1:-1], text)


def printable(text: str, limit: int = 200) -> str:
    r"""Escape what a terminal would act on or cannot show, and cut.

    Args:
        text: Of any length and content.
        limit: Characters of the result at most, those of escapes and of CUT counted.

    Returns:
        One line of printable characters.

    Examples:
        >>> printable("conv1\x1b[2J")
        'conv1\\x1b[2J'
    """
    parts = []
    room = limit
    for character in text[: limit + 1]:
        part = character if character.isprintable() else ascii(character)[1:-1]
        parts.append(part)
        room -= len(part)
        if room < 0:
            break
    else:
        return "".join(parts)
    while parts and room < len(CUT):
        room += len(parts.pop())
    return "".join(parts) + CUT[:limit]
