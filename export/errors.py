"""These errors are the caller's to mend; a file that does not hold is a `ParityError` (parity/verdict.py)."""

from codeq.errors import CodeqError


class ExportError(CodeqError):
    """A network or an option cannot be exported. The message is one line: where, what was expected, what was found."""


class DeclinedError(ExportError):
    """The format has no counterpart for what the network does; that is seen before anything is written."""
