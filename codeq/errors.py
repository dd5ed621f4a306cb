"""What a caller did wrong, as one line: where, what was expected, what was found, the way out.

Commands turn these into exit code 2; any other exception is a bug of ours and keeps its traceback.
"""


class CodeqError(ValueError):
    """Bad input. The message is one line, complete without a traceback."""


class AttachError(CodeqError):
    """A layer selection that does not fit the network."""


class CheckpointError(CodeqError):
    """A checkpoint that cannot be read, or does not fit what it declares."""


class DataError(CodeqError):
    """A data set that is missing, malformed, or does not fit the network."""


class TraceError(CodeqError):
    """A network that torch.export cannot turn into a graph."""


class CalibrationError(CodeqError):
    """Calibration inputs, or what a network makes of them, that give no range for an activation."""


class OutputError(CodeqError):
    """An output path that cannot, or must not, be written."""


class RanksError(CodeqError):
    """Processes that cannot train together: how they were started, where they meet, a batch they cannot share."""


class RanksDisagreeError(RanksError):
    """Processes that hold different weights, data or arguments where all must hold the same."""


def first_line(error: BaseException) -> str:
    """The first line of a message that says something, or the exception's type where none does."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
