"""What a file of ours says about itself, in the model's `metadata_props`: plain JSON, read as data only."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import onnx

from codeq.activations.encoding import ActivationEncoding
from codeq.version import __version__
from export.errors import ExportError

if TYPE_CHECKING:
    from export.program.program import QuantizedActivations, WeightRecord

KEY = "codeq"
FORMAT_VERSION = 2
"""2 brought `activations`, without which a reader would hold such a file to the wrong contract."""

LITERT = "litert"
"""The `target` of .tflite files."""

EXACT_SESSION_OPTIONS = {"session.disable_quant_qdq": "1"}
"""onnxruntime's default replaces DequantizeLinear -> MatMul by a kernel that quantizes activations (relative error
6e-3); with this entry weights are decoded once, when the session is created, and the file computes in float32."""

INTEGER_SESSION_OPTIONS = {"session.qdq_matmulnbits_accuracy_level": "0"}
"""For files with quantized activations, which need that optimization: layers left in float stay exact."""

KNOWN_SESSION_OPTIONS = frozenset({*EXACT_SESSION_OPTIONS, *INTEGER_SESSION_OPTIONS})
"""A file cannot set anything else: session options can also load libraries."""


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

    `activations` is the grid of every quantized tensor, None where activations are float. `layout`, of .tflite files
    only, says how tensors lie in them.
    """

    session_options: dict[str, str]
    weights: tuple[WeightMetadata, ...]
    checkpoint_sha256: str | None
    preprocessing: dict[str, list[float]]
    versions: dict[str, str]
    activations: dict[str, ActivationEncoding] | None = None
    activations_except: tuple[str, ...] = ()
    storage: str = "auto"
    target: str = "onnxruntime"
    layout: Mapping[str, Any] | None = None


def describe_weight(record: "WeightRecord") -> WeightMetadata:
    """The metadata of one weight as it is stored."""
    encoding = record.encoding
    return WeightMetadata(
        name=record.name,
        value_name=record.value_name,
        batch_norm=record.batch_norm,
        axis=encoding.axis,
        bit_width=encoding.bit_width,
        quant_max=encoding.quant_max,
        multiplier=encoding.multiplier,
        offset=encoding.offset,
        shifted=encoding.shift is not None,
        space_to_depth=record.space_to_depth,
        codes_sha256=hashlib.sha256(encoding.codes.contiguous().numpy().tobytes()).hexdigest(),
    )


def metadata_props(
    weights: Iterable[WeightMetadata],
    *,
    checkpoint_sha256: str | None,
    preprocessing: Mapping[str, list[float]],
    versions: Mapping[str, str],
    activations: "QuantizedActivations | None" = None,
    storage: str = "auto",
    target: str = "onnxruntime",
    layout: Mapping[str, Any] | None = None,
) -> dict[str, str]:
    """The entry that an export adds to a model, one JSON text. Only a file for onnxruntime has session options."""
    content: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "checkpoint_sha256": checkpoint_sha256,
        "preprocessing": dict(preprocessing),
        "versions": {"codeq": __version__, **versions},
        "weights": [_describe(weight) for weight in weights],
        "storage": storage,
        "target": target,
    }
    if target != LITERT:
        content["session_options"] = EXACT_SESSION_OPTIONS if activations is None else INTEGER_SESSION_OPTIONS
    if layout is not None:
        content["layout"] = layout
    if activations is not None:
        content["activations"] = {name: asdict(encoding) for name, encoding in activations.encodings.items()}
        content["activations_except"] = activations.exclude
    return {KEY: json.dumps(content, separators=(",", ":"), sort_keys=True)}


def _describe(weight: WeightMetadata) -> dict[str, Any]:
    values = asdict(weight)
    if weight.space_to_depth is None:
        del values["space_to_depth"]
    return values


def read_metadata(model: onnx.ModelProto, path: object) -> FileMetadata:
    """Read the entry back.

    Args:
        model: The parsed file.
        path: For messages.

    Raises:
        ExportError: The file has no such entry, a damaged or a newer one, or sets a session option it may not.
    """
    props = {entry.key: entry.value for entry in model.metadata_props}
    if KEY not in props:
        raise ExportError(f"{path}: has no {KEY!r} metadata, expected a file written by export.onnx")
    metadata = parse_metadata(props[KEY], path)
    unknown = sorted(set(metadata.session_options) - KNOWN_SESSION_OPTIONS)
    if unknown:
        raise ExportError(f"{path}: asks for the session options {', '.join(unknown)}, which a file may not set")
    return metadata


def parse_metadata(text: str, path: object) -> FileMetadata:
    """The metadata of a file of either format.

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
        target = str(content.get("target", "onnxruntime"))
        options = content["session_options"] if target != LITERT else {}
        metadata = FileMetadata(
            session_options={str(key): str(value) for key, value in options.items()},
            weights=tuple(WeightMetadata(**weight) for weight in content["weights"]),
            checkpoint_sha256=content["checkpoint_sha256"],
            preprocessing=content["preprocessing"],
            versions=content["versions"],
            activations=_read_encodings(content.get("activations")),
            activations_except=tuple(str(pattern) for pattern in content.get("activations_except", ())),
            storage=str(content.get("storage", "auto")),
            target=target,
            layout=content.get("layout"),
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
