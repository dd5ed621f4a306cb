"""Name, edit and run the nodes of a traced network, a graph of aten operators (codeq/graph/trace.py makes it).

What trains and what is exported agree on where activations are quantized because both read this graph.
"""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch._dispatch.python import enable_python_dispatcher
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.fx import Graph, Interpreter, Node
from torch.fx.node import map_arg

from codeq.graph.operators import FILLED


def input_names(exported: ExportedProgram) -> tuple[str, ...]:
    """Name the inputs of a traced network: after its arguments where it has several or was called by name."""
    nodes = (node for node in exported.graph.nodes if node.op == "placeholder")
    return tuple(node.meta["input_name"] for node in nodes if not is_constant(node))


def output_names(exported: ExportedProgram) -> tuple[str, ...]:
    """Name the outputs of a traced network, as `named_outputs` says."""
    names: tuple[str, ...] = exported.graph.output_node().meta["output_names"]
    return names


def operator_name(node: Node) -> str:
    """Say what a node computes, as aten calls it: `conv2d`, `add`, `adaptive_avg_pool2d`; "" for no aten operator."""
    packet = getattr(node.target, "overloadpacket", None)
    return "" if packet is None else str(packet.__name__)


def module_type(node: Node) -> str:
    """Name the class of the innermost module that a node was traced in, e.g. `Conv2d`; "" outside of any."""
    _, kind = scope(node)
    return kind.rpartition(".")[2].removeprefix("Parametrized")


def layer_names(graph: Graph) -> dict[Node, str]:
    """Give every operator of a graph a unique readable name.

    `layer1.0.conv1` where the module is that operator, else module and operator: `layer1.0.add`. A second use gets
    `_1`. The names depend on the network alone: weights may be quantized or not, BatchNorms folded or not.
    """
    names: dict[Node, str] = {}
    taken = {"input", *(str(node.meta["input_name"]) for node in graph.nodes if "input_name" in node.meta)}
    for node in graph.nodes:
        operator = operator_name(node)
        if node.op != "call_function" or not operator or node.target.namespace == "codeq":
            continue
        path, _ = scope(node)
        is_operator = operator.replace("_", "") in module_type(node).lower()
        name = path if path and is_operator else f"{path}.{operator}".lstrip(".")
        numbers = (f"{name}_{number}" for number in itertools.count(1))
        names[node] = name if name not in taken else next(item for item in numbers if item not in taken)
        taken.add(names[node])
    return names


def insert_call(node: Node, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> Node:
    """Add a call before `node`, in the same place of the network, and return it."""
    with node.graph.inserting_before(node):
        new = node.graph.call_function(target, args, kwargs)
    new.meta = {key: node.meta[key] for key in ("nn_module_stack", "stack_trace") if key in node.meta}
    new.meta["constant"] = all(is_constant(operand) for operand in new.all_input_nodes)
    # Without torch's Python dispatcher some operators would take the open batch size for the example's.
    with enable_python_dispatcher():
        values = map_arg((args, kwargs or {}), lambda argument: argument.meta["val"])
        new.meta["val"] = target(*values[0], **values[1])
    return new


def replace_node(exported: ExportedProgram, old: Node, new: Node) -> None:
    """Let everything that read `old` read `new`, the program's outputs included, and remove `old`."""
    old.replace_all_uses_with(new)
    exported.graph_signature.replace_all_uses(old.name, new.name)
    exported.graph.erase_node(old)


def state_name(exported: ExportedProgram, node: Node) -> str | None:
    """Name the parameter, buffer or constant that a placeholder stands for; None for anything else."""
    if node.op != "placeholder":
        return None
    specs = exported.graph_signature.input_specs
    return next((spec.target for spec in specs if spec.arg.name == node.name), None)


def is_float_tensor(node: Node) -> bool:
    """Tell whether a node's value is one float32 tensor."""
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.dtype == torch.float32


def has_float_tensor(node: Node) -> bool:
    """Tell whether a node's value is, or holds, a float32 tensor."""
    value = node.meta.get("val")
    parts = value if isinstance(value, tuple | list) else [value]
    return any(isinstance(part, Tensor) and part.dtype == torch.float32 for part in parts)


def is_tensor(node: Node) -> bool:
    """Tell whether a node's value is a tensor, or holds several: no number such as the batch size."""
    return isinstance(node.meta.get("val"), Tensor | tuple | list)


def is_constant(node: Node) -> bool:
    """Tell whether a value is the same for all inputs: parameters, buffers and what is made of them alone."""
    return bool(node.meta["constant"])


def depends_on_input(node: Node) -> bool:
    """Tell whether a tensor is computed from the values of an input: neither constant, nor of the batch size alone.

    The first state of a recurrent layer (zeros for every input) and a class token (repeated) are not.
    """
    if "depends_on_input" not in node.meta:
        if node.op == "placeholder":
            depends = not is_constant(node)
        else:
            read = node.all_input_nodes
            if node.target in FILLED:  # the first one gives its shape alone
                read = [operand for operand in read if operand is not node.args[0]]
            depends = is_tensor(node) and any(map(depends_on_input, read))
        node.meta["depends_on_input"] = depends
    return bool(node.meta["depends_on_input"])


class GraphRunner(Interpreter):
    """Runs a traced network node by node. A value is freed after its last use."""

    def __init__(
        self,
        exported: ExportedProgram,
        on_value: Callable[[Node, Any], Any] | None = None,
        *,
        keep_constants: bool = False,
    ) -> None:
        """Make a runner of one network.

        Args:
            exported: The network.
            on_value: Sees each node's value and gives the one that readers get.
            keep_constants: Compute what is made of parameters and buffers alone, such as a dequantized weight, in the
                first run only.
        """
        super().__init__(exported.graph_module, graph=exported.graph)
        self.extra_traceback = False  # an error of ours stays one line
        self.exported = exported
        self.on_value = on_value
        self.keep_constants = keep_constants
        self.kept: dict[Node, Any] = {}

    def run_node(self, n: Node) -> Any:
        """Compute the value of a node, or take the one that was kept, and show it to `on_value`."""
        if n in self.kept:
            return self.kept[n]
        value = self.compute_node(n)
        if self.keep_constants and n.op == "call_function" and n.meta["constant"]:
            self.kept[n] = value
        return value if self.on_value is None else self.on_value(n, value)

    def compute_node(self, n: Node) -> Any:
        """Compute the value of a node; subclasses replace this."""
        return super().run_node(n)

    def compute(self, inputs: tuple[Tensor, ...], tensors: Mapping[str, Tensor] | None = None) -> tuple[Any, ...]:
        """Compute the outputs, flattened.

        Args:
            inputs: In the order of the network's arguments.
            tensors: Values of parameters and buffers by name, instead of the traced ones.
        """
        stored = {**self.exported.constants, **self.exported.state_dict}
        given = iter(inputs)
        arguments = []
        for spec in self.exported.graph_signature.input_specs:
            if spec.kind is InputKind.USER_INPUT:
                arguments.append(next(given))
                continue
            assert spec.target is not None
            arguments.append((stored if tensors is None else tensors)[spec.target])
        return tuple(self.run(*arguments, enable_io_processing=False))


def scope(node: Node) -> tuple[str, str]:
    """Return path and class name of the innermost module around a node."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    if not stack:
        return "", ""
    path, kind = stack[-1]
    return str(path), kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
