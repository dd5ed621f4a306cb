"""This module reads an ONNX file of ours as it was written: its graph, and what it says about itself."""

from dataclasses import dataclass
from pathlib import Path

import onnx

from export.metadata import KEY, FileMetadata, with_mismatch
from export.onnx.sessions import load_model, read_metadata
from export.onnx.stored_weight import external_files


@dataclass(frozen=True, eq=False)
class OnnxFile:
    """Describes a file that was read.

    Attributes:
        path: Where it is.
        model: Its graph, external data left where it is.
        metadata: What it says about itself.
        fixed_batch: The one batch size that it takes; None where it is open.
        approximate: No file of ours for onnxruntime is.
        cpu: None of them is for one kind of processor alone.
    """

    path: Path
    model: onnx.ModelProto
    metadata: FileMetadata
    fixed_batch: int | None
    approximate: bool = False
    cpu: str | None = None


def read_file(path: Path) -> OnnxFile:
    """Read a file of `export.onnx`.

    Raises:
        ExportError: Missing, not an ONNX file, or not one of ours.
    """
    model = load_model(path)
    return OnnxFile(path, model, read_metadata(model, path), _fixed_batch(model))


def record_mismatch(path: Path, failure: str) -> None:
    """Write into a file's metadata that parity does not hold; everything else stays as it is."""
    model = load_model(path)
    for entry in model.metadata_props:
        if entry.key == KEY:
            entry.value = with_mismatch(entry.value, failure)
    path.write_bytes(model.SerializeToString(deterministic=True))


def files_of(path: Path) -> list[Path]:
    """List an ONNX file, whoever wrote it, and the external data that it names.

    Raises:
        ExportError: Missing, or not an ONNX file.
    """
    return [path, *external_files(load_model(path), path)]


def _fixed_batch(model: onnx.ModelProto) -> int | None:
    for item in model.graph.input:
        dimensions = item.type.tensor_type.shape.dim
        return int(dimensions[0].dim_value) if dimensions and dimensions[0].HasField("dim_value") else None
    return None
