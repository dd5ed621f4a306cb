"""Suggest what a misspelt word of a command line was meant to be."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Name the known word nearest to a misspelt one, for the end of an error message.

    Returns:
        E.g. "; did you mean --activations?", or "" where nothing is near.

    Example:
        >>> did_you_mean("--activatons", ["--activations", "--opset"])
        '; did you mean --activations?'
    """
    found = get_close_matches(word, list(known), n=1)
    return f"; did you mean {found[0]}?" if found else ""
