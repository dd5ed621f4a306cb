"""Write the equivalent dense ONNX file.

For runtimes that do not fold constants, or have no memory to spare for it: decoders and sparse initializers become
plain int8 initializers. The codes are the same, byte for byte, and so is all that computes with them.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from codeq.errors import first_line
from codeq.toolkit.files import check_writable, staging_folder
from codeq.toolkit.table import fold_line, format_bytes
from export.errors import ExportError
from export.metadata import KEY, write_metadata
from export.onnx.evaluate import ancestors
from export.onnx.opset import smallest_ir_version
from export.onnx.options import EXTERNAL_DATA_THRESHOLD
from export.onnx.sessions import load_model, read_metadata
from export.onnx.storage.decoder import DOMAIN
from export.onnx.stored_weight import codes_names, default_opset, external_bytes, external_files, read_codes


@dataclass(frozen=True)
class Materialized:
    """Says what was written. `weights` counts those that were encoded before."""

    path: Path
    size_bytes: int
    source_bytes: int
    weights: int

    def to_dict(self) -> dict[str, Any]:
        """Give everything to machines, with plain types."""
        return asdict(self) | {"path": str(self.path)}

    def __str__(self) -> str:
        sizes = f"{format_bytes(self.source_bytes)} -> {format_bytes(self.size_bytes)}"
        found = f"{self.weights} weights decoded, hashes of all codes as written: ok"
        return fold_line(f"{self.path}   {sizes}, {found}", 3)


def materialize(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    force: bool = False,
    external_data_threshold: int = EXTERNAL_DATA_THRESHOLD,
) -> Materialized:
    """Write a file with every quantized weight as a dense int8 initializer.

    Args:
        source: A file of `export.onnx`, any storage.
        target: What to write; with external data, `<target>.data` appears beside it.
        force: Overwrite.
        external_data_threshold: Bytes of the file above which tensors are stored beside it.

    Raises:
        ExportError: The source is missing, not one of ours, or damaged.
        OutputError: The target exists (without `force`), is the source, or cannot be written.
    """
    path, output = Path(source), Path(target)
    data = output.with_name(f"{output.name}.data")
    model = load_model(path)
    metadata = read_metadata(model, path)
    opset = default_opset(model, path)
    own = {file.resolve() for file in (path, *external_files(model, path))}
    if own & {output.resolve(), data.resolve()}:
        raise ExportError(f"{output}: is the file itself, or its data; name another output with -o")
    check_writable(output, force=force)
    source_bytes = path.stat().st_size + sum(external_bytes(tensor) for tensor in model.graph.initializer)
    dense = {tensor.name for tensor in model.graph.initializer}
    names = codes_names(model, metadata.weights)
    tensors = {}
    for weight, codes in read_codes(model, path, metadata.weights):
        name = names[weight.name]
        if name not in dense:
            raw = np.ascontiguousarray(codes).tobytes()
            tensors[name] = TensorProto(name=name, data_type=TensorProto.INT8, dims=codes.shape, raw_data=raw)
    _load_external(model, path)
    _replace(model, tensors)
    model.ir_version = smallest_ir_version(opset)
    _note_dense(model)
    external = sum(len(tensor.raw_data) for tensor in model.graph.initializer) > external_data_threshold
    if external:
        check_writable(data, force=force)
    stale = output.exists() and not external
    with staging_folder(output, replace=force) as folder:
        staged = folder / output.name
        if external:
            onnx.save_model(model, staged, save_as_external_data=True, location=data.name)
        else:
            staged.write_bytes(model.SerializeToString(deterministic=True))
        try:
            onnx.checker.check_model(staged)
        except Exception as error:  # onnx raises several types
            raise ExportError(f"{path}: is damaged ({first_line(error)})") from error
        size = sum(file.stat().st_size for file in folder.iterdir())
    if stale:
        data.unlink(missing_ok=True)  # of the file that was just overwritten
    return Materialized(output, size, source_bytes, len(tensors))


def _load_external(model: onnx.ModelProto, path: Path) -> None:
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except Exception as error:  # onnx raises several types for missing and damaged data files
        raise ExportError(f"{path}: its external data cannot be read ({first_line(error)})") from error


def _replace(model: onnx.ModelProto, tensors: dict[str, TensorProto]) -> None:
    """Put tensors in the place of what computes them, in place."""
    graph = model.graph
    nodes, encoded, _ = ancestors(graph, tensors)
    gone = {tensor.name for tensor in encoded}
    decoders = {output for node in nodes for output in node.output}
    kept = [node for node in graph.node if not set(node.output) & decoders]
    initializers = [tensor for tensor in graph.initializer if tensor.name not in gone]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(kept)
    graph.initializer.extend([*initializers, *tensors.values()])
    sparse = [tensor for tensor in graph.sparse_initializer if tensor.values.name not in tensors]
    del graph.sparse_initializer[:]
    graph.sparse_initializer.extend(sparse)
    del model.functions[:]
    imports = [entry for entry in model.opset_import if entry.domain != DOMAIN]
    del model.opset_import[:]
    model.opset_import.extend(imports)


def _note_dense(model: onnx.ModelProto) -> None:
    """Say in the metadata that weights are dense now."""
    for entry in model.metadata_props:
        if entry.key == KEY:
            content = json.loads(entry.value) | {"storage": "dense", "materialized": True}
            entry.value = write_metadata(content)
