"""This runner gives what a device has computed already, in place of a runtime here."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from export.errors import ExportError
from export.runner import Runner
from runtime_tests.devices.results import digest_of


class RecordedRunner:
    """See `Runner`.

    Args:
        here: The same file, opened here: it brings inputs and outputs into form, and computes nothing.
        recorded: Outputs by the SHA-256 of the batch's inputs, from `DeviceResults.of`.
        source: Of the results, for messages.
    """

    note = ""

    def __init__(self, here: Runner, recorded: Mapping[str, Sequence[np.ndarray]], source: str) -> None:
        self.here = here
        self.recorded = recorded
        self.source = source
        self.runtime, self.version, self.inputs, self.content = here.runtime, here.version, here.inputs, here.content

    def open(self) -> None:
        """Do nothing: it is open here."""

    def prepare(self, arrays: Sequence[np.ndarray]) -> Any:
        return self.here.prepare(arrays)

    def run(self, prepared: Any) -> list[np.ndarray]:
        digest = digest_of(list_of(prepared))
        if digest not in self.recorded:
            raise ExportError(f"{self.source}: is of other inputs; give the --data and --count of `codeq probe-file`")
        return list(self.recorded[digest])

    def finish(self, outputs: list[np.ndarray]) -> list[np.ndarray]:
        return self.here.finish(outputs)


def list_of(prepared: Any) -> list[np.ndarray]:
    """Give prepared inputs in the order of the file's."""
    return list(prepared.values()) if isinstance(prepared, dict) else list(prepared)
