"""Inline what a network computes under `torch.autocast(enabled=False)` or `torch.no_grad()`.

torch.export makes each such region a graph of its own behind one operator, where no rule sees its layers.

    Before: wrap_with_autocast(..., body, x, weight) -> getitem        After: the nodes of body
    Before: wrap_with_set_grad_enabled(False, body, x) -> getitem      After: the nodes of body -> detach

Exact, and for training too: nothing but the outputs of a region carries a gradient out of it. A no_grad within an
autocast is not in the graph that torch.export makes; the other way round it is.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node

BODY_ARGUMENT: Mapping[Any, int] = {
    torch.ops.higher_order.wrap_with_autocast: 4,  # (device_type, dtype, enabled, cache_enabled, body, *operands)
    torch.ops.higher_order.wrap_with_set_grad_enabled: 1,  # (enabled, body, *operands)
}
"""Operators that compute a region, and the position of its graph among their arguments; the operands follow."""


def inline_regions(exported: ExportedProgram) -> None:
    """Inline every region of a traced network, in place, also one within another.

    An autocast that is on is inlined as well: its casts are nodes of their own, and the dtypes of its values tell.
    """
    module = exported.graph_module
    renamed = _inline(module)
    if not renamed:
        return
    for old, new in renamed.items():
        exported.graph_signature.replace_all_uses(old, new)
    module.delete_all_unused_submodules()
    module.graph.lint()
    module.recompile()


def _inline(module: GraphModule) -> dict[str, str]:
    """Inline the regions of one graph; returns the new name of every value that came out of one."""
    graph = module.graph
    renamed: dict[str, str] = {}
    for node in list(graph.nodes):
        if node.target not in BODY_ARGUMENT:
            continue
        position = BODY_ARGUMENT[node.target]
        body_node, *operands = node.args[position:]
        assert isinstance(body_node, Node)
        body = module.get_submodule(str(body_node.target))
        assert isinstance(body, GraphModule)
        _inline(body)
        detached = node.target is torch.ops.higher_order.wrap_with_set_grad_enabled and not node.args[0]
        results = _copy_before(node, module, body, operands, detached=detached)
        for user in list(node.users):
            (result,) = (results[index] for index in user.args[1:])  # getitem
            renamed[user.name] = result.name
            user.replace_all_uses_with(result)
            graph.erase_node(user)
        graph.erase_node(node)
        if not body_node.users:
            graph.erase_node(body_node)
    return renamed


def _copy_before(
    node: Node, module: GraphModule, body: GraphModule, operands: list[Any], *, detached: bool
) -> list[Any]:
    """Copy a region's nodes to where it is called; returns its results."""
    copies: dict[Node, Any] = {}
    given = iter(operands)
    with node.graph.inserting_before(node):
        for inner in body.graph.nodes:
            if inner.op == "placeholder":
                copies[inner] = next(given)
            elif inner.op == "output":
                results = [copies.get(result, result) for result in inner.args[0]]
            else:
                copies[inner] = node.graph.node_copy(inner, copies.__getitem__)
                if inner.op == "get_attr":  # a graph of its own that is no region: under a name that is free here
                    copies[inner].target = name = f"{node.name}_{inner.target}"
                    module.add_submodule(name, body.get_submodule(str(inner.target)))
        return [_detach(node, result) if detached else result for result in results]


def _detach(node: Node, result: Any) -> Any:
    value = result.meta["val"] if isinstance(result, Node) else None
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return result
    copy = node.graph.call_function(torch.ops.aten.detach.default, (result,))
    copy.meta = {key: result.meta[key] for key in ("nn_module_stack", "stack_trace", "val") if key in result.meta}
    return copy
