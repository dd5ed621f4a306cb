"""Read what on_device.py has saved on a device, and hold it against the files and inputs that were sent there."""

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from codeq.errors import first_line
from codeq.toolkit.text import printable
from export.errors import ExportError
from runtime_tests.devices.names import KINDS, MICRO

FORMAT = 1
MAX_TEXT = 200
"""Characters of a name that a file of results may give."""


@dataclass(frozen=True, eq=False)
class DeviceResults:
    """Holds all that one device computed.

    Attributes:
        path: Where it is.
        cpu: The processor, by the names of `export.reference.processors.RULES`.
        platform: As the device says it.
        count: Inputs that were sent.
        outputs: By file and batch, as the runtime gave them; the file by its SHA-256, the batch by that of its inputs.
        runtimes: The runtime of a file and its version, by the file's SHA-256.
    """

    path: Path
    cpu: str
    platform: str
    count: int
    outputs: Mapping[tuple[str, str], Sequence[np.ndarray]]
    runtimes: Mapping[str, tuple[str, str]]

    def of(self, file: str) -> Mapping[str, Sequence[np.ndarray]]:
        """Give what the device computed of one file, by its SHA-256; empty where it had no such file."""
        return {batch: arrays for (name, batch), arrays in self.outputs.items() if name == file}


def digest_of(arrays: Sequence[np.ndarray]) -> str:
    """Compute the SHA-256 of the inputs of a batch, as on_device.py does."""
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def read_results(path: Path) -> DeviceResults:
    """Read a file of results.

    Raises:
        ExportError: Missing, damaged, or written by something else.
    """
    if not path.is_file():
        raise ExportError(f"{path}: no such file, expected the results of on_device.py")
    if not zipfile.is_zipfile(path):
        raise ExportError(f"{path}: is no .npz, expected the results of on_device.py")
    try:
        with np.load(path, allow_pickle=False) as stored:
            if "about" not in stored.files:
                raise ExportError(f"{path}: is not what on_device.py writes; run `codeq probe-file` for what to send")
            about = json.loads(str(stored["about"]))
            if "outputs" in about and "files" not in about:
                raise ExportError(f"{path}: holds the inputs of a device; the results are what its script wrote there")
            arrays = {name: stored[name] for name in stored.files if name != "about"}
        return _read(path, about, arrays)
    except ExportError:
        raise
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
        OSError,
        EOFError,
        MemoryError,
        zipfile.BadZipFile,
    ) as error:
        raise ExportError(f"{path}: is damaged, or not what on_device.py writes ({first_line(error)})") from error


def _read(path: Path, about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> DeviceResults:
    if about["format"] != FORMAT:
        raise ExportError(
            f"{path}: is of format {about['format']!r}, expected {FORMAT}; take on_device.py of this release"
        )
    texts = {name: printable(str(about[name]), MAX_TEXT) for name in ("cpu", "platform")}
    if texts["cpu"] not in (*KINDS, MICRO):
        raise ExportError(
            f"{path}: comes from a processor {texts['cpu']!r}, whose rule is not known; if it computes as one of "
            f"{', '.join(KINDS)} does, set CODEQ_CPU to that on the device"
        )
    digests = {str(name): str(digest) for name, digest in about["batches"].items()}
    found: dict[tuple[str, str], dict[int, np.ndarray]] = {}
    for name, array in arrays.items():
        number, batch, place = name.split(".")
        key = str(about["files"][int(number)]["sha256"]), digests[batch]
        first = found.setdefault(key, {}).setdefault(int(place), array)
        if not np.array_equal(first, array, equal_nan=array.dtype.kind == "f"):
            raise ExportError(f"{path}: the device computed two things of equal inputs (output {place}, batch {batch})")
    outputs = {key: [places[place] for place in range(len(places))] for key, places in found.items()}
    runtimes = {
        str(file["sha256"]): (printable(str(file["runtime"]), MAX_TEXT), printable(str(file["version"]), MAX_TEXT))
        for file in about["files"]
    }
    count = about["inputs"]["count"]
    if type(count) is not int or count < 1:
        raise ExportError(f"{path}: says that {count!r} inputs were sent")
    return DeviceResults(path, texts["cpu"], texts["platform"], count, outputs, runtimes)
