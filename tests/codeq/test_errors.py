"""Errors of ours are ValueErrors; a message from elsewhere is cut to one line."""

import inspect

import pytest

from codeq import errors
from codeq.errors import CodeqError, first_line


def test_every_error_of_ours_is_a_codeq_error() -> None:
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)]
    assert len(kinds) > 5
    assert all(issubclass(kind, CodeqError) and issubclass(kind, ValueError) for kind in kinds)


@pytest.mark.parametrize(
    ("message", "line"),
    [("one", "one"), ("\n\n  two  \nmore", "two"), ("", "OSError"), ("\n \n", "OSError")],
    ids=["one_line", "the_first_that_speaks", "silent", "blank"],
)
def test_the_first_line_of_a_message(message: str, line: str) -> None:
    assert first_line(OSError(message)) == line
