"""Suggest what a misspelt word of a command line was meant to be."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches


def did_you_mean(word: str, known: Iterable[str], shown: Mapping[str, str] | None = None) -> str:
    """Name the known word nearest to a misspelt one, for the end of an error message.

    Args:
        word: What was typed; upper and lower case are alike.
        known: What it may have been.
        shown: What to name in place of a known word.

    Returns:
        E.g. "; did you mean --activations?", or "" where nothing is near.

    Examples:
        >>> did_you_mean("--activatons", ["--activations", "--opset"])
        '; did you mean --activations?'
    """
    found = get_close_matches(word.lower(), list(known), n=1)
    return f"; did you mean {(shown or {}).get(found[0], found[0])}?" if found else ""
