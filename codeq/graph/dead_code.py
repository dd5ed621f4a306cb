"""Remove what a network computes and no output reads: the value of `y` in `_, p2, y = backbone(x)`, an auxiliary head.

Exact. Names of layers and quantized tensors then go to what is used alone, in training as in every file.
"""

from collections.abc import Iterable

from torch.export import ExportedProgram
from torch.fx import Node

from codeq.graph.writes import writes_in_place


def ancestors(nodes: Iterable[Node]) -> set[Node]:
    """Give the nodes themselves and all that they are computed from."""
    found: set[Node] = set()
    pending = list(nodes)
    while pending:
        node = pending.pop()
        if node not in found:
            found.add(node)
            pending += node.all_input_nodes
    return found


def remove_dead_code(exported: ExportedProgram) -> None:
    """Remove it from a traced network, in place; inputs, parameters and buffers stay, read or not."""
    graph = exported.graph
    # A write that could not be made a value of its own may be seen in what it shares memory with.
    kept = ancestors([graph.output_node(), *(node for node in graph.nodes if writes_in_place(node))])
    for node in reversed(list(graph.nodes)):
        if node not in kept and node.op != "placeholder":
            graph.erase_node(node)
    exported.graph_module.delete_all_unused_submodules()
    exported.graph_module.recompile()
