"""Metadata says what a file of ours is: one entry of plain JSON in the file, read as data only."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from codeq.activations.encoding import ActivationEncoding
from codeq.toolkit.table import fold_line
from codeq.version import __version__
from export.errors import ExportError

KEY = "codeq"
FORMAT_VERSION = 2
"""2 brought `activations`, without which a reader would hold such a file to the wrong contract."""


@dataclass(frozen=True)
class WeightMetadata:
    """One quantized weight of a file: which BatchNorm its scale has absorbed, its grid, and a hash of its codes.

    `value_name` is the graph value that holds it: its own name, that of an equal weight, or None where it is not used.
    `codes_sha256` is of the int8 codes in the file, C order. `shifted` says that the grid is the paper's.
    `space_to_depth` is as in `WeightRecord`.
    """

    name: str
    value_name: str | None
    batch_norm: str | None
    axis: int | None
    bit_width: int
    quant_max: int
    multiplier: int
    offset: int
    shifted: bool
    codes_sha256: str
    space_to_depth: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        numbers = (self.bit_width, self.quant_max, self.multiplier, self.offset, self.axis or 0)
        texts = (self.name, self.codes_sha256, self.batch_norm or "", self.value_name or "")
        if not (all(isinstance(n, int) for n in numbers) and all(isinstance(t, str) for t in texts)):
            raise TypeError(f"weight {self.name!r} is described by values of the wrong type")
        if self.space_to_depth is not None and not all(offset in (0, 1) for offset in self.space_to_depth):
            raise TypeError(f"weight {self.name!r} has no offsets {self.space_to_depth!r}")


@dataclass(frozen=True)
class FileMetadata:
    """The metadata of a file, `storage` and `target` as they were asked for.

    `activations` is the grid of every quantized tensor, None where activations are float. `session_options` are what
    the runtime must be opened with, and `layout` says how tensors lie in the file; None where the format has none.
    `mismatch` is the first failure of a file that was published although parity does not hold; empty for all others.
    """

    weights: tuple[WeightMetadata, ...]
    checkpoint_sha256: str | None
    preprocessing: dict[str, list[float]]
    versions: dict[str, str]
    activations: dict[str, ActivationEncoding] | None = None
    activations_except: tuple[str, ...] = ()
    storage: str = "auto"
    target: str = ""
    session_options: Mapping[str, str] | None = None
    layout: Mapping[str, Any] | None = None
    mismatch: str = ""


def metadata_props(
    weights: Iterable[WeightMetadata],
    *,
    checkpoint_sha256: str | None,
    preprocessing: Mapping[str, list[float]],
    versions: Mapping[str, str],
    activations: Mapping[str, ActivationEncoding] | None,
    activations_except: Iterable[str],
    storage: str,
    target: str,
    session_options: Mapping[str, str] | None = None,
    layout: Mapping[str, Any] | None = None,
) -> dict[str, str]:
    """Make the entry that an export adds to a file, one JSON text.

    Args:
        weights, checkpoint_sha256, preprocessing, storage, target: As in `FileMetadata`.
        versions: Of the packages that wrote the file, beside our own.
        activations, activations_except: Likewise; None where activations are float.
        session_options: What the runtime must be opened with; None where the format has none.
        layout: How tensors lie in the file; None where that goes without saying.
    """
    content: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "checkpoint_sha256": checkpoint_sha256,
        "preprocessing": dict(preprocessing),
        "versions": {"codeq": __version__, **versions},
        "weights": [_describe(weight) for weight in weights],
        "storage": storage,
        "target": target,
    }
    if session_options is not None:
        content["session_options"] = dict(session_options)
    if layout is not None:
        content["layout"] = layout
    if activations is not None:
        content["activations"] = {name: asdict(encoding) for name, encoding in activations.items()}
        content["activations_except"] = list(activations_except)
    return {KEY: json.dumps(content, separators=(",", ":"), sort_keys=True)}


def with_mismatch(text: str, failure: str) -> str:
    """Give the metadata of a file, as `metadata_props` made them, together with what does not hold.

    Args:
        text: The entry.
        failure: One line.
    """
    content = json.loads(text) | {"parity": {"ok": False, "first_failure": failure}}
    return json.dumps(content, separators=(",", ":"), sort_keys=True)


def mismatch_lines(failure: str) -> list[str]:
    """Say of a file, in a line, that parity does not hold; none where it does."""
    return [fold_line(f"parity    does not hold, published all the same: {failure}", 10)] if failure else []


def _describe(weight: WeightMetadata) -> dict[str, Any]:
    values = asdict(weight)
    if weight.space_to_depth is None:
        del values["space_to_depth"]
    return values


def parse_metadata(text: str, path: object) -> FileMetadata:
    """Read the metadata of a file.

    Args:
        text: The entry, as `metadata_props` gives it.
        path: For messages.

    Raises:
        ExportError: It is damaged, or of a newer version.
    """
    try:
        content: dict[str, Any] = json.loads(text)
        version = content["format_version"]
        if version > FORMAT_VERSION:
            raise ExportError(f"{path}: metadata version {version} is newer than {FORMAT_VERSION}; upgrade codeq")
        options = content.get("session_options")
        metadata = FileMetadata(
            weights=tuple(WeightMetadata(**weight) for weight in content["weights"]),
            checkpoint_sha256=content["checkpoint_sha256"],
            preprocessing=content["preprocessing"],
            versions=content["versions"],
            activations=_read_encodings(content.get("activations")),
            activations_except=tuple(str(pattern) for pattern in content.get("activations_except", ())),
            storage=str(content.get("storage", "auto")),
            target=str(content.get("target", "")),
            session_options=None if options is None else {str(key): str(value) for key, value in options.items()},
            layout=content.get("layout"),
            mismatch=str(content.get("parity", {}).get("first_failure", "")),
        )
        if not all(isinstance(part, dict) for part in (metadata.versions, metadata.preprocessing)):
            raise TypeError("versions and preprocessing are no mappings")
    except ExportError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ExportError(f"{path}: its {KEY!r} metadata is damaged ({error})") from error
    return metadata


def _read_encodings(values: dict[str, Any] | None) -> dict[str, ActivationEncoding] | None:
    return None if values is None else {name: ActivationEncoding(**value) for name, value in values.items()}
