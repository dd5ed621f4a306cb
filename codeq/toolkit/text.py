"""Text that comes from files is shown so that it cannot speak to the terminal: escaped, and cut where it is endless.

Control characters move the cursor and clear the screen, marks of direction turn a line around, and half a surrogate
pair cannot be encoded at all. What is left of them here is how Python writes them: \\x1b, \\u202e, \\ud800.
"""

import re

UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""All but tabs and ends of lines, which whoever writes several lines means."""


def escape(text: str) -> str:
    """Replace what is no text by its escape sequence; tabs and ends of lines stay."""
    return UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def printable(text: str, limit: int = 200) -> str:
    """Write text in one line of at most `limit` characters, with "..." where it was cut."""
    cut = text if len(text) <= limit else text[: limit - 3] + "..."
    shown = escape(cut.replace("\n", "\\n").replace("\t", "\\t"))
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."
