"""Apply a storage plan to a graph: tensors and decoder calls in the place of dense codes, functions beside it."""

from collections.abc import Mapping

import onnx

from export.errors import ExportError
from export.onnx.storage.decoder import DOMAIN, MIN_IR_VERSION, VERSION, function_proto
from export.onnx.storage.part import make_tensors, part_nodes
from export.onnx.storage.plan import StoragePlan
from export.onnx.storage.sparse_initializer import sparse_initializer
from export.onnx.storage.weight import CodedWeight


def store_weights(model: onnx.ModelProto, weights: Mapping[str, CodedWeight], plan: StoragePlan) -> None:
    """Store the codes as planned, in place; what is planned to be dense stays as it is.

    Before: W_quantized -> reader, without a producer
    After:  initializers 0/steps, 0/remainders, ... -> codeq.storage.golomb -> W_quantized -> reader, the same codes

    Raises:
        ExportError: The network has a value with the name of one that a decoder needs.
    """
    graph = model.graph
    taken = {tensor.name for tensor in graph.initializer} | {value.name for value in graph.input}
    taken |= {output for node in graph.node for output in node.output}
    nodes = list(plan.shared)
    tensors = []
    # The tensors come last in the file: who reads only the graph need not pass them.
    for name, choice in plan.choices.items():
        if choice.part is None:
            graph.sparse_initializer.append(sparse_initializer(weights[name], name))
        elif plan.moves(name):
            tensors += make_tensors(choice.part, weights[name], choice.prefix, name)
            nodes += part_nodes(choice.part, choice.prefix, name, functions=plan.target.functions)
    clash = taken & {*(tensor.name for tensor in tensors), *(output for node in nodes for output in node.output)}
    if clash:
        raise ExportError(f"the network's own value {min(clash)!r} has the name of a decoder's; rename the layer")
    graph.initializer.extend(tensors)
    readers = list(graph.node)
    del graph.node[:]
    graph.node.extend(nodes + readers)
    if plan.functions:
        (opset,) = (entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
        model.ir_version = max(model.ir_version, MIN_IR_VERSION)
        model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, VERSION))
        model.functions.extend(function_proto(name, opset) for name in plan.functions)
