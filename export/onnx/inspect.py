"""Inspect an ONNX file of ours: what is in it, and whether its codes are intact.

Needs onnxruntime and the file: no PyTorch, no checkpoint.
"""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from codeq.toolkit.table import fold_line, format_bytes, format_count, format_ratio, render_table
from export.metadata import FileMetadata, StateMetadata, WeightMetadata, mismatch_lines
from export.onnx.evaluate import ancestors
from export.onnx.opset import oldest_onnxruntime
from export.onnx.sessions import load_model, read_metadata
from export.onnx.storage.kinds import STORAGES
from export.onnx.storage.part import functions_bytes, message_bytes, part_nodes
from export.onnx.storage.plan import DENSE, SPARSE, runner_up, storage_candidates
from export.onnx.storage.target import TARGETS
from export.onnx.storage.weight import CodedWeight
from export.onnx.stored_weight import (
    codes_names,
    default_opset,
    external_bytes,
    float_weights,
    is_shared,
    read_codes,
    stored_bytes,
)
from export.state_report import state_lines, state_values

SIZES = ("float32_bytes", "int8_bytes", "size_bytes", "entropy_bytes")
"""Tables show these sizes of a weight."""

LABEL_WIDTH = 10
"""Where texts begin behind their labels."""

PLAIN = (DENSE, SPARSE, "shared")
"""Storages without a decoder."""


@dataclass(frozen=True)
class InspectedWeight:
    """Describes one weight. Sizes in bytes; `shared_with` names the weight whose equal codes it goes by, and is then
    not stored again. `storage` is the encoding, `reason` how the next best one compares."""

    name: str
    shape: tuple[int, ...]
    bit_width: int
    sparsity: float
    float32_bytes: int
    int8_bytes: int
    size_bytes: int
    entropy_bytes: float
    storage: str
    reason: str
    shared_with: str | None


@dataclass(frozen=True)
class Overhead:
    """Holds bytes of a file outside its weights."""

    decoders: int
    scales_and_biases: int
    graph: int
    metadata: int


@dataclass(frozen=True)
class Inspection:
    """Describes a file of ours, its codes held to their hashes. `float_weights` have two or more dimensions; sizes in
    bytes."""

    path: Path
    size_bytes: int
    weights: tuple[InspectedWeight, ...]
    float_weights: dict[str, int]
    unused: tuple[str, ...]
    overhead: Overhead
    opset: int
    ir_version: int
    oldest_onnxruntime: str
    versions: dict[str, str]
    activations: int | None
    checkpoint_sha256: str | None
    mismatch: str
    state: tuple[StateMetadata, ...] = ()

    @property
    def entropy_bytes(self) -> float:
        """Return the Shannon bound of all codes."""
        return sum(weight.entropy_bytes for weight in self.weights if weight.shared_with is None)

    def to_dict(self) -> dict[str, Any]:
        """Return everything, with plain types."""
        values = {"path": str(self.path), "entropy_bytes": self.entropy_bytes, "codes": "verified"}
        return asdict(self) | values | {"state": state_values(self.state)}

    def __str__(self) -> str:
        over = self.overhead
        ratio = format_ratio(self.size_bytes, self.entropy_bytes)
        bound = f"{ratio}x the entropy bound of its codes; " if self.entropy_bytes >= 1 else ""
        activations = "float32 activations" if self.activations is None else f"{self.activations} tensors uint8"
        lines = [f"unused    {name}: the network does not compute with it" for name in self.unused]
        if self.float_weights:
            size, count = format_bytes(sum(self.float_weights.values())), len(self.float_weights)
            lines.append(f"float     {size} in {format_count(count, 'weight')} that stayed float")
        lines += [
            f"overhead  {format_bytes(over.graph)} graph and names, "
            f"{format_bytes(over.scales_and_biases)} scales, biases and other tensors, "
            f"{format_bytes(over.decoders)} shared decoders, {format_bytes(over.metadata)} metadata",
            f"file      {format_bytes(self.size_bytes)}, {bound}{activations}",
            f"opset     {self.opset}, IR {self.ir_version}; "
            f"onnxruntime {self.oldest_onnxruntime} is the oldest that should load it",
            f"written   by {', '.join(f'{name} {version}' for name, version in self.versions.items())}",
            f"codes     of {len(self.weights)} weights decoded, hashes as written: ok",
        ]
        folded = [fold_line(line, LABEL_WIDTH) for line in lines]
        return "\n".join([*self._tables(), *state_lines(self.state), *folded, *mismatch_lines(self.mismatch)])

    def _tables(self) -> list[str]:
        if not self.weights:
            return []
        sums = [sum(getattr(weight, key) for weight in self.weights if not weight.shared_with) for key in SIZES]
        header = ("weight", "bits", "zeros", "float32", "int8", "stored", "bound", "ratio", "storage")
        rows = [
            (
                weight.name,
                str(weight.bit_width),
                f"{weight.sparsity:.1%}",
                *(format_bytes(getattr(weight, key)) for key in SIZES),
                format_ratio(weight.size_bytes, weight.entropy_bytes),
                weight.storage.removesuffix("_initializer"),
            )
            for weight in self.weights
        ]
        total = ("total", "", "", *map(format_bytes, sums), format_ratio(sums[2], sums[3]), "")
        why = [(weight.name, weight.storage, weight.reason) for weight in self.weights]
        return [render_table(header, rows, total), "", render_table(("weight", "storage", "why"), why), ""]


def inspect_file(path: Path) -> Inspection:
    """Read a file, decode every weight in onnxruntime, and hold its codes to the hashes of the export.

    Raises:
        ExportError: Missing, not an ONNX file, not one of ours, or damaged.

    Examples:
        print(inspect_file(Path("model.onnx")))
    """
    model = load_model(path)
    metadata = read_metadata(model, path)
    opset = default_opset(model, path)
    names = codes_names(model, metadata.weights)
    prefixes = {name: str(index) for index, name in enumerate(dict.fromkeys(names.values()))}
    owners: dict[str, str] = {}
    weights = []
    for weight, codes in read_codes(model, path, metadata.weights):
        name = names[weight.name]
        owner = owners.setdefault(name, weight.name)
        weights.append(_inspect_weight(model, weight, name, codes, metadata, opset, owner, prefixes[name]))
    external = sum(external_bytes(tensor) for tensor in model.graph.initializer)
    size = path.stat().st_size + external
    in_weights = sum(weight.size_bytes for weight in weights)
    floats = float_weights(model.graph, (weight.name for weight in metadata.weights))
    return Inspection(
        path=path,
        size_bytes=size,
        weights=tuple(weights),
        float_weights=floats,
        unused=tuple(weight.name for weight in metadata.weights if weight.value_name is None),
        overhead=_overhead(model, {*owners, *floats}, size - in_weights - sum(floats.values())),
        opset=opset,
        ir_version=model.ir_version,
        oldest_onnxruntime=oldest_onnxruntime(
            opset,
            functions=bool(model.functions),
            decoders=any(weight.storage not in PLAIN for weight in weights),
        ),
        versions=metadata.versions,
        activations=None if metadata.activations is None else len(metadata.activations),
        checkpoint_sha256=metadata.checkpoint_sha256,
        mismatch=metadata.mismatch,
        state=metadata.state,
    )


def _inspect_weight(
    model: onnx.ModelProto,
    weight: WeightMetadata,
    codes_name: str,
    codes: np.ndarray,
    metadata: FileMetadata,
    opset: int,
    owner: str,
    prefix: str,
) -> InspectedWeight:
    coded = CodedWeight(codes)
    shared = owner != weight.name
    storage, reason = (
        ("shared", f"equal to {owner}") if shared else _name_storage(model, codes_name, coded, metadata, opset, prefix)
    )
    return InspectedWeight(
        name=weight.name,
        shape=tuple(codes.shape),
        bit_width=weight.bit_width,
        sparsity=1 - coded.nnz / max(coded.numel, 1),
        float32_bytes=4 * coded.numel,
        int8_bytes=coded.numel,
        size_bytes=0 if shared else stored_bytes(model.graph, codes_name),
        entropy_bytes=coded.entropy_bytes,
        storage=storage,
        reason=reason,
        shared_with=owner if shared else None,
    )


def _name_storage(
    model: onnx.ModelProto, name: str, coded: CodedWeight, metadata: FileMetadata, opset: int, prefix: str
) -> tuple[str, str]:
    """The encoding of a weight, recognized by its tensors and decoder calls, and how the next one compares."""
    if metadata.storage not in STORAGES or metadata.target not in TARGETS:
        return "unknown", ""
    candidates = storage_candidates(coded, name, metadata.storage, TARGETS[metadata.target], opset, prefix)
    nodes, tensors, sparse = ancestors(model.graph, [name])
    fields = sorted((tensor.data_type, tuple(tensor.dims)) for tensor in tensors)
    calls = sorted(_operation(node) for node in nodes if not is_shared(node))
    for candidate in candidates:
        part = candidate.part
        if part is None:
            same = bool(sparse)
        else:
            wanted = part_nodes(part, prefix, name, functions=TARGETS[metadata.target].functions)
            same = not sparse and sorted((field.data_type, field.dims) for field in part.fields) == fields
            same = same and sorted(map(_operation, wanted)) == calls
        if same:
            return candidate.codec, runner_up(candidate, candidates, metadata.storage)
    return "unknown", ""


def _operation(node: onnx.NodeProto) -> bytes:
    """Give what a node does, without the names of what it reads and gives: two codecs may store tensors alike."""
    plain = onnx.NodeProto(op_type=node.op_type, domain=node.domain, attribute=node.attribute)
    return plain.SerializeToString(deterministic=True)


def _overhead(model: onnx.ModelProto, weights: Collection[str], total: int) -> Overhead:
    """Split what is not the weights' own: by far the most of it is the network's other float tensors."""
    nodes, tensors, _ = ancestors(model.graph, weights)
    in_weights = {tensor.name for tensor in tensors}
    others = [tensor for tensor in model.graph.initializer if tensor.name not in in_weights]
    decoders = functions_bytes(model.functions) + message_bytes([node for node in nodes if is_shared(node)])
    floats = message_bytes(others) + sum(external_bytes(tensor) for tensor in others)
    metadata = message_bytes(model.metadata_props)
    return Overhead(decoders, floats, total - decoders - floats - metadata, metadata)
