"""Apply a storage plan to a graph: tensors and decoder calls in the place of dense codes, functions beside it."""

from collections.abc import Mapping

import onnx

from export.storage.decoder import DOMAIN, MIN_IR_VERSION, VERSION, function_proto
from export.storage.part import make_node, make_nodes, make_tensors
from export.storage.plan import StoragePlan
from export.storage.sparse_initializer import sparse_initializer
from export.storage.weight import CodedWeight


def store_weights(
    model: onnx.ModelProto, weights: Mapping[str, CodedWeight], plan: StoragePlan, prefixes: Mapping[str, str]
) -> None:
    """Store the codes as planned, in place.

    Before: initializer W_quantized -> reader
    After:  initializers 0/steps, 0/low, ... -> codeq.storage.rice -> W_quantized -> reader, the same codes

    Args:
        model: Its graph holds no initializer of these names, or a dense one, which goes.
    """
    graph = model.graph
    kept = [tensor for tensor in graph.initializer if tensor.name not in plan.choices]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    nodes = [make_node(call, "", "") for call in plan.shared]
    for name, choice in plan.choices.items():
        if choice.part is None:
            graph.sparse_initializer.append(sparse_initializer(weights[name], name))
        else:
            graph.initializer.extend(make_tensors(choice.part, weights[name], prefixes[name], name))
            nodes += make_nodes(choice.part, prefixes[name], name)
    readers = list(graph.node)
    del graph.node[:]
    graph.node.extend(nodes + readers)
    if plan.functions:
        (opset,) = (entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
        model.ir_version = max(model.ir_version, MIN_IR_VERSION)
        model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, VERSION))
        model.functions.extend(function_proto(name, opset) for name in plan.functions)
