"""This module opens a file of ours in onnxruntime with the session options it carries, so that it computes what was
trained.
"""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

import onnx
import onnxruntime as ort

from codeq.errors import first_line
from codeq.toolkit.text import printable
from export.errors import ExportError
from export.metadata import KEY, FileMetadata, parse_metadata
from export.onnx.vet import check_model, check_weights
from export.onnx.wire import check_file

EXACT_SESSION_OPTIONS = {"session.disable_quant_qdq": "1"}
"""onnxruntime's default replaces DequantizeLinear -> MatMul by a kernel that quantizes activations (relative error
6e-3); with this entry weights are decoded once, when the session is created, and the file computes in float32."""

INTEGER_SESSION_OPTIONS = {"session.qdq_matmulnbits_accuracy_level": "0"}
"""For files with quantized activations, which need that optimization: layers left in float stay exact."""

PRECISE_SESSION_OPTIONS = {"session.x64quantprecision": "1"}
"""For files whose products can saturate in 16 bits on x86 without VNNI (saturation.py): onnxruntime then computes
u8 x u8 there, which is exact, and elsewhere what it does without. It wants weights that no two kernels read, each with
zero points of its own ("Attempt to replace the existing tensor", onnxruntime 1.31)."""

KNOWN_SESSION_OPTIONS = frozenset({*EXACT_SESSION_OPTIONS, *INTEGER_SESSION_OPTIONS, *PRECISE_SESSION_OPTIONS})
"""A file cannot set anything else: session options can also load libraries."""

LEVELS = {
    "disable_all": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "enable_all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
"""The optimization levels of the parity contract."""
DEPLOYED_LEVEL = "enable_all"
"""onnxruntime's default, at which files are deployed."""


MAX_REASON = 500
"""Characters of what onnxruntime says, which may quote the file."""
_VETTED: dict[Path, tuple[int, ...]] = {}
"""Files that were found within the limits: a check of parity opens the same one many times."""
EXTERNAL_FOLDER = "session.model_external_initializers_file_folder_path"
"""Where the external data of a model that is opened from memory is."""


def load_session(
    path: str | os.PathLike[str],
    *,
    level: str = "enable_all",
    exact: bool = True,
    threads: int | None = None,
) -> ort.InferenceSession:
    """Open an exported file in onnxruntime on the CPU.

    Args:
        path: A file written by `export.onnx`.
        level: "disable_all", "basic" or "enable_all" (onnxruntime's default).
        exact: Apply the session options stored in the file; False opens it with onnxruntime's defaults, as a
            program that knows nothing of us would.
        threads: Threads within an operator; None leaves it to onnxruntime.

    Raises:
        ExportError: Missing, not an ONNX file, or not one of ours.

    Examples:
        session = load_session("resnet8.onnx")
        (logits,) = session.run(None, {"input": images})
    """
    source = Path(path)
    entries = file_options(read_metadata(load_model(source), source)) if exact else {}
    return open_session(source, session_options(level, threads, entries), source)


def load_model(source: Path) -> onnx.ModelProto:
    """Parse a file, external data left where it is, and hold it to the limits of wire.py and vet.py.

    Raises:
        ExportError: Missing, not an ONNX file, or outside the limits.
    """
    identity = _identity(source)
    is_new = identity is None or _VETTED.get(source) != identity
    if is_new:
        check_file(source)
    try:
        model = onnx.load(source, load_external_data=False)
    except Exception as error:  # protobuf's DecodeError, from whichever implementation is installed
        raise ExportError(f"{source}: is not an ONNX file") from error
    if not model.HasField("graph"):
        raise ExportError(f"{source}: is not an ONNX file")
    if is_new:
        check_model(model, source, ours=any(entry.key == KEY for entry in model.metadata_props))
        if identity is not None and not any(tensor.external_data for tensor in model.graph.initializer):
            _VETTED[source] = identity
    return model


def _identity(source: Path) -> tuple[int, ...] | None:
    """Give what tells a file from the one that was there before; None where it is no ordinary one."""
    try:
        about = source.stat()
    except OSError:
        return None
    return (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns) if stat.S_ISREG(about.st_mode) else None


def read_metadata(model: onnx.ModelProto, path: Path) -> FileMetadata:
    """Read what a file of ours says about itself.

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
    if metadata.session_options is None:
        raise ExportError(f"{path}: its {KEY!r} metadata is damaged (no session_options)")
    unknown = sorted(set(metadata.session_options) - KNOWN_SESSION_OPTIONS)
    if unknown:
        raise ExportError(f"{path}: asks for the session options {', '.join(unknown)}, which a file may not set")
    check_weights(model, metadata.weights, path)
    return metadata


def file_options(metadata: FileMetadata) -> dict[str, str]:
    """Give the session options that a file carries."""
    return dict(metadata.session_options or {})


def session_options(
    level: str, threads: int | None = None, entries: Mapping[str, str] | None = None
) -> ort.SessionOptions:
    """Options of one optimization level, quiet on stderr, with configuration entries such as a file carries."""
    options = ort.SessionOptions()
    options.graph_optimization_level = LEVELS[level]
    options.log_severity_level = 4  # refusals come as exceptions, whose reason we report
    if threads is not None:
        options.intra_op_num_threads = threads
    for key, value in (entries or {}).items():
        options.add_session_config_entry(key, value)
    return options


def open_session(model: Path | bytes, options: ort.SessionOptions, source: Path) -> ort.InferenceSession:
    """Open a CPU session on a file or a serialized model; one that onnxruntime refuses is an ExportError naming
    `source`."""
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no public base class
        reason = printable(first_line(error), MAX_REASON)
        raise ExportError(f"{source}: onnxruntime {ort.__version__} cannot open it ({reason})") from error
