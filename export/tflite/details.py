"""This section of a report says what is particular to a .tflite file: its operators."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from codeq.toolkit.table import format_bytes
from export.report import Report
from export.tflite.ethos_u import EthosU
from export.tflite.micro import Arena
from export.tflite.passes.sparse_inference import SparseInference


@dataclass(frozen=True)
class TfliteDetails:
    """Holds the details of a .tflite file.

    Attributes:
        operators: Counts those in it.
        arena: What memory TFLite Micro needs beside the file; None where it is not for that.
        ethos_u: What Arm's compiler makes of the file; None where it is not for that.
        sparse_inference: Whether XNNPACK multiplies 1 x 1 convolutions by their non-zeros; None for codes.
    """

    operators: Mapping[str, int]
    arena: Arena | None = None
    ethos_u: EthosU | None = None
    sparse_inference: SparseInference | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def remarks(self, report: Report[Any]) -> Sequence[tuple[str, str]]:
        remarks = [("operators", ", ".join(f"{count} {code}" for code, count in self.operators.items()))]
        if self.arena is not None:
            size = self.arena.size_bytes
            remarks.append(
                ("arena", self.arena.note if size is None else f"{format_bytes(size)} of RAM beside the file")
            )
            remarks.append(("flash", f"{format_bytes(report.size_bytes)}, the file"))
        if self.sparse_inference is not None:
            word = "" if self.sparse_inference.engages else "no: "
            remarks.append(("sparse inference", f"{word}{self.sparse_inference.reason}"))
        if self.ethos_u is not None:
            remarks.append(("ethos-u", str(self.ethos_u)))
        return remarks

    def smaller(self, report: Report[Any]) -> Mapping[str, str]:
        return {}
