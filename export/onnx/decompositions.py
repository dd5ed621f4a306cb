"""torch.onnx takes a graph apart by tracing it anew, though it may hold nothing to take apart: here that is spared.

Tracing a graph of 250 operators takes 4 seconds, a fifth of an export.
"""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch.export import ExportedProgram
from torch.fx import GraphModule


@contextmanager
def decompose_if_needed(exported: ExportedProgram) -> Iterator[None]:
    """Let `exported.run_decompositions` give a copy where it would change nothing: no operator is in its table.

    A copy, since the exporter changes the graph that it gets, and ours is what the file is held to.
    """
    decompose = exported.run_decompositions

    def decompose_or_copy(table: Mapping[Any, Any] | None = None, **options: Any) -> ExportedProgram:
        if table is None or options or _holds_any(exported.graph_module, table):
            return decompose(table, **options)
        return _copy(exported)

    exported.run_decompositions = decompose_or_copy
    try:
        yield
    finally:
        del exported.run_decompositions  # the class has its own


def _copy(exported: ExportedProgram) -> ExportedProgram:
    """Copy graph and signature; torch names a node anew in a copy where Python has the name, as `input`."""
    fresh = copy.copy(exported)
    fresh._graph_module = copy.deepcopy(exported.graph_module)
    names = {old.name: new.name for old, new in zip(exported.graph.nodes, fresh.graph.nodes, strict=True)}
    fresh._graph_signature = copy.deepcopy(exported.graph_signature)
    for spec in (*fresh.graph_signature.input_specs, *fresh.graph_signature.output_specs):
        if spec.arg.name in names:
            spec.arg.name = names[spec.arg.name]
    return fresh


def _holds_any(graph_module: GraphModule, table: Mapping[Any, Any]) -> bool:
    modules = [module for module in graph_module.modules() if isinstance(module, GraphModule)]
    return any(node.target in table for module in modules for node in module.graph.nodes if node.op == "call_function")
