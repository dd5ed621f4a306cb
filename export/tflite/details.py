"""This section of a report says what is particular to a .tflite file: its operators."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from export.report import Report


@dataclass(frozen=True)
class TfliteDetails:
    """Holds the details of a .tflite file. `operators` counts those in it."""

    operators: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def remarks(self, report: Report[Any]) -> Sequence[tuple[str, str]]:
        return [("operators", ", ".join(f"{count} {code}" for code, count in self.operators.items()))]

    def smaller(self, report: Report[Any]) -> Mapping[str, str]:
        return {}
