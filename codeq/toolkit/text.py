"""Texts that come from files are shown as what they are: no control character of theirs reaches a terminal."""


def printable(text: str, limit: int = 200) -> str:
    """Escape what is not printable in a text, and cut it.

    Args:
        text: Of a file that somebody else wrote.
        limit: Characters that are kept.

    Example:
        printable("a\\x1b[2J")  # 'a\\\\x1b[2J'
    """
    escaped = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text[: limit + 1]
    )
    return escaped if len(escaped) <= limit else f"{escaped[:limit]}..."
