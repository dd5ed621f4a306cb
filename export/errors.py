"""What can go wrong in an export."""

from typing import TYPE_CHECKING

from codeq.errors import CodeqError

if TYPE_CHECKING:
    from export.onnx.verify import Verdict
    from export.tflite.verify import TfliteVerdict


class ExportError(CodeqError):
    """A network or an option that cannot be exported. One line: where, what was expected, what was found."""


class DeclinedError(ExportError):
    """The format has no counterpart for what the network does; that is seen before anything is written."""


class ParityError(Exception):
    """The file and its PyTorch network part ways, so it was not published. `verdict` says where."""

    def __init__(self, verdict: "Verdict | TfliteVerdict") -> None:
        super().__init__(f"parity does not hold: {verdict.first_failure}")
        self.verdict = verdict
