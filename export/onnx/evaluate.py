"""Compute some values of a file in onnxruntime, without running the rest of it."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx

from codeq.errors import first_line
from codeq.toolkit.text import printable
from export.errors import ExportError
from export.onnx.sessions import EXTERNAL_FOLDER, MAX_REASON, open_session, session_options


def compute_values(
    model: onnx.ModelProto, source: Path, names: Sequence[str], level: str, entries: Mapping[str, str]
) -> dict[str, np.ndarray]:
    """Compute values that depend on no input of the graph; returns them by name.

    Args:
        model: The parsed file, external data left where it is.
        source: The file; for its external data, and for messages.
        names: Values of its graph, initializers among them.
        level: As for `load_session`.
        entries: Session options.

    Raises:
        ExportError: onnxruntime refuses that part of the file.
    """
    if not names:
        return {}
    part = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions)
    part.graph.name = model.graph.name
    part.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    nodes, tensors, sparse = ancestors(model.graph, names)
    part.graph.node.extend(nodes)
    part.graph.initializer.extend(tensors)
    part.graph.sparse_initializer.extend(sparse)
    options = session_options(level, entries={**entries, EXTERNAL_FOLDER: str(source.parent)})
    session = open_session(part.SerializeToString(), options, source)
    try:
        values = session.run(None, {})
    except Exception as error:  # onnxruntime's exceptions share no public base class
        reason = printable(first_line(error), MAX_REASON)
        raise ExportError(f"{source}: {names[0]} cannot be computed ({reason})") from error
    return dict(zip(names, values, strict=True))


def ancestors(
    graph: onnx.GraphProto, names: Iterable[str]
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto], list[onnx.SparseTensorProto]]:
    """Find the nodes that compute values, in order, and the initializers that they or the values themselves are."""
    needed = set(names)
    nodes = []
    for node in reversed(graph.node):
        if needed & set(node.output):
            nodes.append(node)
            needed |= set(node.input)
    return (
        nodes[::-1],
        [tensor for tensor in graph.initializer if tensor.name in needed],
        [tensor for tensor in graph.sparse_initializer if tensor.values.name in needed],
    )
