"""Inspect a .tflite file of ours: what it holds for every weight, and whether its codes are intact."""

import hashlib
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from codeq.toolkit.table import fold_line, format_bytes, format_count, format_ratio, render_table
from export.errors import ExportError
from export.metadata import StateMetadata, WeightMetadata, mismatch_lines
from export.program.names import codes_name
from export.state_report import state_lines, state_values
from export.tflite.file.flatbuffer import tensors_by_name
from export.tflite.runtime import schema
from export.tflite.stored_file import TfliteFile, read_file


@dataclass(frozen=True)
class InspectedTensor:
    """Describes one weight of a .tflite file; sizes in bytes. `entropy_bytes` is the Shannon bound of its codes."""

    name: str
    shape: tuple[int, ...]
    bit_width: int
    sparsity: float
    float32_bytes: int
    size_bytes: int
    entropy_bytes: float
    storage: str


@dataclass(frozen=True)
class TfliteInspection:
    """Describes a .tflite file of ours, its codes held to their hashes. `operators` counts those in it."""

    path: Path
    size_bytes: int
    weights: tuple[InspectedTensor, ...]
    unused: tuple[str, ...]
    operators: dict[str, int]
    versions: dict[str, str]
    activations: int | None
    checkpoint_sha256: str | None
    mismatch: str
    state: tuple[StateMetadata, ...] = ()

    @property
    def entropy_bytes(self) -> float:
        """Return the Shannon bound of all codes."""
        return sum(weight.entropy_bytes for weight in self.weights)

    def to_dict(self) -> dict[str, Any]:
        """Give everything to machines, with plain types."""
        values = {"path": str(self.path), "entropy_bytes": self.entropy_bytes, "codes": "verified"}
        return asdict(self) | values | {"state": state_values(self.state)}

    def __str__(self) -> str:
        stored = sum(weight.size_bytes for weight in self.weights)
        header = ("weight", "bits", "zeros", "float32", "stored", "bound", "ratio", "storage")
        rows = [
            (
                weight.name,
                str(weight.bit_width),
                f"{weight.sparsity:.1%}",
                format_bytes(weight.float32_bytes),
                format_bytes(weight.size_bytes),
                format_bytes(weight.entropy_bytes),
                format_ratio(weight.size_bytes, weight.entropy_bytes),
                weight.storage,
            )
            for weight in self.weights
        ]
        sums = (format_bytes(stored), format_bytes(self.entropy_bytes), format_ratio(stored, self.entropy_bytes))
        lines = [render_table(header, rows, ("total", "", "", "", *sums, "")), ""] if rows else []
        activations = "float32 activations" if self.activations is None else f"{self.activations} tensors int8"
        bound = f"{format_ratio(self.size_bytes, self.entropy_bytes)}x the entropy bound of its codes; "
        about = [
            *(f"unused    {name}: the network does not compute with it" for name in self.unused),
            f"file      {format_bytes(self.size_bytes)}, {bound if rows else ''}{activations}",
            f"graph     {format_count(sum(self.operators.values()), 'operator')}",
            f"written   by {', '.join(f'{name} {version}' for name, version in self.versions.items())}",
            f"codes     of {len(self.weights)} weights read, hashes as written: ok",
        ]
        folded = [fold_line(line, 10) for line in about]
        return "\n".join([*lines, *state_lines(self.state), *folded, *mismatch_lines(self.mismatch)])


def inspect_file(path: Path) -> TfliteInspection:
    """Read a file and hold its codes to the hashes of the export.

    Raises:
        ExportError: Missing, no .tflite file, not one of ours, or damaged.
    """
    stored = read_file(path)
    tensors = tensors_by_name(stored.content)
    used = [weight for weight in stored.metadata.weights if weight.name in stored.weights]
    return TfliteInspection(
        path=path,
        size_bytes=len(stored.data),
        weights=tuple(_inspect_weight(stored, weight, *tensors[codes_name(weight.name)]) for weight in used),
        unused=tuple(weight.name for weight in stored.metadata.weights if weight.name not in stored.weights),
        operators=dict(Counter(stored.operators)),
        versions=stored.metadata.versions,
        activations=None if stored.metadata.activations is None else len(stored.metadata.activations),
        checkpoint_sha256=stored.metadata.checkpoint_sha256,
        mismatch=stored.metadata.mismatch,
        state=stored.metadata.state,
    )


def _inspect_weight(
    stored: TfliteFile, weight: WeightMetadata, codes: np.ndarray | None, tensor: Any
) -> InspectedTensor:
    layout = stored.weights[weight.name]
    if codes is None or codes.dtype != np.int8:
        raise ExportError(f"{stored.path}: holds no int8 codes of {weight.name}; it is damaged")
    plain = layout.restore(codes, layout.view)
    if hashlib.sha256(np.ascontiguousarray(plain).tobytes()).hexdigest() != weight.codes_sha256:
        raise ExportError(
            f"{stored.path}: the codes of {weight.name} are not those it was written with (their hash differs); "
            "the file is damaged: export it again"
        )
    buffer = stored.content.buffers[tensor.buffer].data
    size = (0 if buffer is None else len(buffer)) + 4 * np.size(tensor.quantization.scale) + _position_bytes(tensor)
    _, counts = np.unique(codes, return_counts=True)
    shares = counts / max(codes.size, 1)
    return InspectedTensor(
        name=weight.name,
        shape=tuple(plain.shape),
        bit_width=weight.bit_width,
        sparsity=1 - np.count_nonzero(codes) / max(codes.size, 1),
        float32_bytes=4 * codes.size,
        size_bytes=int(size),
        entropy_bytes=float(-(shares * np.log2(shares)).sum() * codes.size / 8),
        storage=_form(tensor),
    )


def _form(tensor: Any) -> str:
    if tensor.sparsity is not None:
        return "CSR"
    return "int4" if tensor.type == schema().TensorType.INT4 else "int8"


def _position_bytes(tensor: Any) -> int:
    """What a sparse tensor's positions take."""
    if tensor.sparsity is None:
        return 0
    rows = tensor.sparsity.dimMetadata[-1]
    return sum(np.asarray(vector.values).nbytes for vector in (rows.arraySegments, rows.arrayIndices))
