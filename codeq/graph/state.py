"""Find what a network keeps from one call for the next: buffers that `forward` writes and that an output then reads.

    y = cat([self.cache, x], 2); self.cache.copy_(x[:, :, -2:]); return conv(y)       state: the next call reads it
    self.calls += 1; return conv(x)                                                   no output reads it: left out

A file computes one call. State is therefore refused, or becomes an input and an output of the graph.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, InputSpec, OutputKind, OutputSpec, TensorArgument
from torch.fx import Node
from torch.utils._pytree import tree_structure

from codeq.errors import TraceError
from codeq.graph.dead_code import ancestors
from codeq.graph.nodes import insert_call

State = Literal["refuse", "io"]
"""What becomes of state: an error, or an input and an output of its name."""


class StateError(TraceError):
    """Raised for a network with state, where that is refused."""


def settle_state(exported: ExportedProgram, left: Mapping[Node, Node | None], state: State) -> None:
    """Decide for each tensor that a call writes whether a later call reads it, and leave no write unsettled.

    The graph's output node notes `state`, the initial value of each by name, and `dropped_writes`, the names of those
    that nothing reads.

    Args:
        exported: Traced and functionalized.
        left: From `functionalize`.
        state: See `State`.

    Raises:
        StateError: State where it is refused.
        TraceError: A write that could not be followed.
    """
    output = exported.graph.output_node()
    names = {spec.arg.name: spec.target for spec in exported.graph_signature.input_specs}
    written: dict[str, tuple[Node, Node]] = {}
    for node, value in left.items():
        name = names[node.name]
        if value is None:
            raise TraceError(
                f"{name or node.name!r} is written in place in a way that cannot be followed; compute a new tensor and "
                "copy_ it where it belongs"
            )
        if name is not None:  # an input belongs to the caller, who gives another one next time
            written[name] = node, value
    carried = _carried(output, written)
    output.meta["dropped_writes"] = tuple(name for name in written if name not in carried)
    tensors = {**exported.constants, **exported.state_dict}
    output.meta["state"] = {name: tensors[name].detach().clone() for name in carried}
    if carried and state == "refuse":
        raise StateError(
            f"the buffer {next(iter(carried))!r} is state: forward writes it, and an output of the next call reads it; "
            "make it an argument and a result of forward"
        )
    for name in carried:
        _make_io(exported, name, *written[name])
    if carried:
        _describe_call(exported)


def state_tensors(exported: ExportedProgram) -> dict[str, Tensor]:
    """Give the initial values of the state that became inputs and outputs, by name; they come last among both."""
    found: dict[str, Tensor] = exported.graph.output_node().meta["state"]
    return found


def dropped_writes(exported: ExportedProgram) -> tuple[str, ...]:
    """Name the tensors that the network writes and that no output reads."""
    found: tuple[str, ...] = exported.graph.output_node().meta["dropped_writes"]
    return found


def _carried(output: Node, written: Mapping[str, tuple[Node, Node]]) -> list[str]:
    """Name the tensors whose value before the call an output reads, be it by way of other state."""
    carried: list[str] = []
    while True:
        read = ancestors([output, *(written[name][1] for name in carried)])
        found = [name for name, (node, value) in written.items() if node in read and value is not node]
        if len(found) == len(carried):
            return found
        carried = found


def _make_io(exported: ExportedProgram, name: str, node: Node, value: Node) -> None:
    """Make a buffer the last input, and what a call leaves in it the last output."""
    graph, signature = exported.graph, exported.graph_signature
    if any(other.meta.get("input_name") == name for other in graph.nodes):
        raise TraceError(f"the network has an argument and a buffer named {name!r}; rename one")
    spec = next(spec for spec in signature.input_specs if spec.arg.name == node.name)
    last = [other for other in graph.nodes if other.op == "placeholder"][-1]
    if last is not node:
        last.append(node)
    signature.input_specs.remove(spec)
    signature.input_specs.append(InputSpec(InputKind.USER_INPUT, spec.arg, None))
    exported.state_dict.pop(name, None)
    exported.constants.pop(name, None)
    node.meta["input_name"] = name
    output = graph.output_node()
    value = insert_call(output, torch.ops.aten.clone.default, (value,))  # an output of its own
    output.args = ((*output.args[0], value),)
    signature.output_specs.append(OutputSpec(OutputKind.USER_OUTPUT, TensorArgument(value.name), None))


def _describe_call(exported: ExportedProgram) -> None:
    """Let the program take its inputs by position, and give a tuple."""
    call, signature = exported.module_call_graph[0].signature, exported.graph_signature
    assert call is not None
    call.in_spec = tree_structure((tuple(signature.user_inputs), {}))
    call.out_spec = tree_structure(tuple(signature.user_outputs))
    call.forward_arg_names = list(map(str, signature.user_inputs))
    positional, keywords = exported.example_inputs
    exported.example_inputs = ((*positional, *keywords.values(), *state_tensors(exported).values()), {})
