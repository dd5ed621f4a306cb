"""Streams of a command carry text alone: what would speak to the terminal is escaped on its last step, whatever it came
from, and a device that takes no more is a line and not a traceback."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from codeq.errors import OutputError
from codeq.toolkit.text import escape


class StreamError(OutputError):
    """Raised where stdout or stderr takes no more: its disk is full, or its device is gone."""


class PlainStream:
    """A text stream that writes control characters as escape sequences; all else is the stream's that it wraps.

    Attributes:
        raw: That stream, for what draws on a terminal.
    """

    def __init__(self, raw: TextIO, name: str) -> None:
        self.raw = raw
        self._name = name

    def write(self, text: str) -> int:
        """Write text.

        Raises:
            StreamError: The device takes no more.
            BrokenPipeError: Its reader has left.
        """
        try:
            self.raw.write(escape(text))
        except OSError as error:
            raise self._as_ours(error) from error
        return len(text)

    def flush(self) -> None:
        """Flush; raises as `write` does."""
        try:
            self.raw.flush()
        except OSError as error:
            raise self._as_ours(error) from error

    def _as_ours(self, error: OSError) -> Exception:
        if isinstance(error, BrokenPipeError):
            return error
        return StreamError(f"cannot write to {self._name}: {error.strerror or error}")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


@contextmanager
def plain_streams() -> Iterator[None]:
    """Let stdout and stderr of this process carry text alone."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (
        cast(TextIO, PlainStream(stream, name)) for stream, name in zip(before, ("stdout", "stderr"), strict=True)
    )
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def raw(stream: TextIO) -> TextIO:
    """Give the stream beneath, for what draws on a terminal."""
    return stream.raw if isinstance(stream, PlainStream) else stream


def drop_rest(stream: TextIO) -> None:
    """Let what a device did not take go nowhere, so that Python's last flush does not fail over it again."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())
