"""These errors say what a caller did wrong, in one line: where, what was expected, what was found, the way out.

Commands turn these into exit code 2; any other exception is a bug of ours and keeps its traceback.
"""


class CodeqError(ValueError):
    """Raised for bad input. The message is one line, complete without a traceback."""


class AttachError(CodeqError):
    """Raised for a layer selection that does not fit the network."""


class CheckpointError(CodeqError):
    """Raised for a checkpoint that cannot be read, or does not fit what it declares."""


class DataError(CodeqError):
    """Raised for a data set that is missing, malformed, or does not fit the network."""


class TraceError(CodeqError):
    """Raised for a network that torch.export cannot turn into a graph."""


class CalibrationError(CodeqError):
    """Raised for calibration inputs, or what a network makes of them, that give no range for an activation."""


class CompressError(CodeqError):
    """Raised for a network or an option that cannot be compressed."""


class RecoverError(CodeqError):
    """Raised for weights of another tool that lie on no grid of ours."""


class KernelTimesError(CodeqError):
    """Raised for a table of kernel times that cannot be read, or is of another network."""


class OutputError(CodeqError):
    """Raised for an output path that cannot, or must not, be written."""


class RanksError(CodeqError):
    """Raised for processes that cannot train together: how they were started, where they meet, what they share."""


class RanksDisagreeError(RanksError):
    """Raised for processes that hold different weights, data or arguments where all must hold the same."""


def first_line(error: BaseException) -> str:
    """Return the first line of a message that says something, or the exception's type where none does."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
