"""Metadata says what a file of ours is: one entry of plain JSON in the file, read as data only."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from codeq.activations.encoding import ActivationEncoding
from codeq.errors import first_line
from codeq.toolkit.table import fold_line
from codeq.toolkit.text import printable
from codeq.version import __version__
from export.errors import ExportError
from export.options import FROM_CHECKPOINT, GIVEN, LEARNED

KEY = "codeq"
FORMAT_VERSION = 2
"""2 brought `activations`, without which a reader would hold such a file to the wrong contract."""
MAX_TEXT = 1000
"""Characters of a name, or of a reason."""
MAX_STATE = 2**27
"""Elements of all tensors that one call leaves for the next."""
STATE_TYPES = (
    "float32",
    "float64",
    "float16",
    "bool",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
)


@dataclass(frozen=True)
class WeightMetadata:
    """Describes one quantized weight of a file: which BatchNorm its scale has absorbed, its grid, and a hash of its
    codes.

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
        if not (all(type(n) is int for n in numbers) and all(isinstance(t, str) for t in texts)):
            raise TypeError(f"weight {self.name!r} is described by values of the wrong type")
        if not all(-(2**31) <= n < 2**31 for n in numbers):
            raise ValueError(f"weight {self.name!r} is described by {max(numbers, key=abs):.3g}")
        if self.space_to_depth is not None and not all(offset in (0, 1) for offset in self.space_to_depth):
            raise TypeError(f"weight {self.name!r} has no offsets {self.space_to_depth!r}")


@dataclass(frozen=True)
class StateMetadata:
    """Describes a tensor that one call leaves for the next: an output of the file that is its input the next time.

    `input` is the name of the network's buffer. `initial` is what the first call takes, in C order; one number where
    all are equal.
    """

    input: str
    output: str
    dtype: str
    shape: tuple[int, ...]
    initial: tuple[float, ...] | float

    @classmethod
    def of(cls, name: str, output: str, value: np.ndarray) -> "StateMetadata":
        """Describe the buffer `name` by the value that it starts with."""
        numbers = tuple(value.ravel().tolist())
        initial = numbers[0] if len(set(numbers)) == 1 else numbers
        return cls(name, output, str(value.dtype), value.shape, initial)

    def __post_init__(self) -> None:
        if not (isinstance(self.input, str) and isinstance(self.output, str)):
            raise TypeError(f"state {self.input!r} is described by values of the wrong type")
        object.__setattr__(self, "shape", tuple(self.shape))
        if self.dtype not in STATE_TYPES or not all(type(size) is int and size >= 0 for size in self.shape):
            raise TypeError(f"state {self.input!r} is {self.dtype!r} of shape {list(self.shape)[:16]}")
        if len(self.shape) > 16 or math.prod(self.shape) > MAX_STATE:
            raise ValueError(f"state {self.input!r} has the shape {list(self.shape)[:16]}")
        self.initial_value()

    def initial_value(self) -> np.ndarray:
        """Give what the first call takes."""
        values = np.asarray(self.initial, np.dtype(self.dtype))
        return np.broadcast_to(values, self.shape).copy() if values.ndim == 0 else values.reshape(self.shape)


@dataclass(frozen=True)
class FileMetadata:
    """Holds the metadata of a file, `storage` and `target` as they were asked for.

    `activations` is the grid of every quantized tensor, None where activations are float; `activations_too_wide` names
    tensors that 8 bits cannot hold, with the reason. `session_options` are what
    the runtime must be opened with, and `layout` says how tensors lie in the file; None where the format has none.
    `state` comes last among inputs and outputs, in this order.
    `mismatch` is the first failure of a file that was published although parity does not hold; empty for all others.
    `options` are those of the export that are not the defaults, and `calibration` says where the grids come from; both
    are empty in older files. `materialized` files were made dense after the export. `removed_channels` counts output
    channels of layers that are not in the file, since no output depends on them. `labels` name what the outputs stand
    for; empty where nobody said.
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
    state: tuple[StateMetadata, ...] = ()
    activations_too_wide: Mapping[str, str] = field(default_factory=dict)
    mismatch: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    calibration: Mapping[str, Any] = field(default_factory=dict)
    materialized: bool = False
    removed_channels: int = 0
    labels: tuple[str, ...] = ()


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
    state: Iterable[StateMetadata] = (),
    activations_too_wide: Mapping[str, str] | None = None,
    options: Mapping[str, Any] | None = None,
    calibration: Mapping[str, Any] | None = None,
    removed_channels: int = 0,
    labels: Iterable[str] = (),
) -> dict[str, str]:
    """Make the entry that an export adds to a file, one JSON text.

    Args:
        weights, checkpoint_sha256, preprocessing, storage, target: As in `FileMetadata`.
        versions: Of the packages that wrote the file, beside our own.
        activations, activations_except: Likewise; None where activations are float.
        session_options: What the runtime must be opened with; None where the format has none.
        layout: How tensors lie in the file; None where that goes without saying.
        state: What one call leaves for the next.
        activations_too_wide: Tensors that 8 bits cannot hold, with the reason.
        options: Of the export, those that are not the defaults.
        calibration: Where the grids come from.
        removed_channels: How many are not in the file.
        labels: What the outputs stand for.
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
    described = [asdict(tensor) for tensor in state]
    if described:
        content["state"] = described
    if activations is not None:
        content["activations"] = {name: asdict(encoding) for name, encoding in activations.items()}
        content["activations_except"] = list(activations_except)
        if activations_too_wide:
            content["activations_too_wide"] = dict(activations_too_wide)
    content |= {key: dict(part) for key, part in (("options", options), ("calibration", calibration)) if part}
    if removed_channels:
        content["removed_channels"] = removed_channels
    names = list(labels)
    if names:
        content["labels"] = names
    return {KEY: write_metadata(content)}


def write_metadata(content: Mapping[str, Any]) -> str:
    """Write the entry of a file."""
    return json.dumps(content, separators=(",", ":"), sort_keys=True)


def with_mismatch(text: str, failure: str) -> str:
    """Give the metadata of a file, as `metadata_props` made them, together with what does not hold.

    Args:
        text: The entry.
        failure: One line.
    """
    reason = printable(failure, MAX_TEXT)
    content = json.loads(text) | {"parity": {"ok": False, "first_failure": reason}}
    return write_metadata(content)


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
        _check_texts(content, path)
        version = content["format_version"]
        if version > FORMAT_VERSION:
            raise ExportError(f"{path}: metadata version {version} is newer than {FORMAT_VERSION}; upgrade codeq")
        session_options = content.get("session_options")
        metadata = FileMetadata(
            weights=tuple(WeightMetadata(**weight) for weight in content["weights"]),
            checkpoint_sha256=content["checkpoint_sha256"],
            preprocessing=content["preprocessing"],
            versions=content["versions"],
            activations=_read_encodings(content.get("activations")),
            activations_except=tuple(str(pattern) for pattern in content.get("activations_except", ())),
            storage=str(content.get("storage", "auto")),
            target=str(content.get("target", "")),
            session_options=None if session_options is None else {str(k): str(v) for k, v in session_options.items()},
            layout=content.get("layout"),
            state=tuple(StateMetadata(**tensor) for tensor in content.get("state", ())),
            activations_too_wide={str(k): str(v) for k, v in content.get("activations_too_wide", {}).items()},
            mismatch=str(content.get("parity", {}).get("first_failure", "")),
            options=content.get("options", {}),
            calibration=content.get("calibration", {}),
            materialized=bool(content.get("materialized", False)),
            removed_channels=content.get("removed_channels", 0),
            labels=tuple(content.get("labels", ())),
        )
        if type(metadata.removed_channels) is not int or metadata.removed_channels < 0:
            raise TypeError(f"removed_channels is {printable(repr(metadata.removed_channels), 80)}")
        for name in ("versions", "preprocessing", "options", "calibration"):
            if not isinstance(getattr(metadata, name), dict):
                raise TypeError(f"{name} is no mapping")
        if metadata.calibration and not _says_where_from(metadata):
            raise TypeError(f"calibration is {printable(repr(metadata.calibration), 80)}")
        if sum(math.prod(tensor.shape) for tensor in metadata.state) > MAX_STATE:
            raise ValueError(f"its state has more than {MAX_STATE} elements")
        texts = (*metadata.versions.values(), *metadata.labels, metadata.checkpoint_sha256 or "")
        if not all(isinstance(value, str) for value in texts):
            raise TypeError("versions, labels or the checkpoint's hash are no text")
    except ExportError:
        raise
    except RecursionError as error:
        raise ExportError(f"{path}: its {KEY!r} metadata is damaged (brackets in brackets, too deep)") from error
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise ExportError(f"{path}: its {KEY!r} metadata is damaged ({printable(first_line(error))})") from error
    return metadata


def _says_where_from(metadata: FileMetadata) -> bool:
    """Whether `calibration` is one that `Quantization.record` gives."""
    kinds = {"source": str, "ranges": str, "cpu": str, "threads": int}
    keys = {LEARNED: ["source"], GIVEN: ["source", "ranges"], FROM_CHECKPOINT: [*kinds]}
    about = metadata.calibration
    wanted = keys.get(str(about.get("source")), [])
    typed = all(type(about[key]) is kinds[key] for key in wanted if key in about)
    return metadata.activations is not None and sorted(about) == sorted(wanted) and typed


def _check_texts(content: Any, path: object) -> None:
    """See that all texts in metadata can be shown."""
    waiting = [content]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            waiting += [*part.keys(), *part.values()]
        elif isinstance(part, list):
            waiting += part
        elif isinstance(part, str) and not (part.isprintable() and len(part) <= MAX_TEXT):
            what = "is overlong" if part[:MAX_TEXT].isprintable() else "holds control characters"
            raise ExportError(f"{path}: its {KEY!r} metadata {what} ('{printable(part, 80)}')")


def _read_encodings(values: dict[str, Any] | None) -> dict[str, ActivationEncoding] | None:
    return None if values is None else {name: ActivationEncoding(**value) for name, value in values.items()}
