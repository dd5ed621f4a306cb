"""Trace a network to its graph of aten operators, by torch.export."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, ShapesCollection
from torch.fx import Graph, GraphModule, Node

from codeq.errors import TraceError, first_line
from codeq.graph.autocast import autocast_off
from codeq.graph.dead_code import remove_dead_code
from codeq.graph.hooks import observers_off
from codeq.graph.inputs import call, named_outputs
from codeq.graph.no_ops import remove_no_ops
from codeq.graph.nodes import depends_on_input, is_constant, operator_name, scope
from codeq.graph.regions import inline_regions
from codeq.graph.single_head import add_head_axis
from codeq.graph.state import State, StateError, settle_state, state_tensors
from codeq.graph.writes import functionalize
from codeq.toolkit.quiet import quiet_torch

HALF_PRECISION = frozenset({torch.bfloat16, torch.float16})


def trace(
    model: nn.Module,
    example_inputs: tuple[Tensor, ...],
    names: tuple[str, ...] = (),
    *,
    dynamic_batch: bool = True,
    state: State = "refuse",
) -> ExportedProgram:
    """Trace a network with torch.export, in float32: an autocast around the call is switched off.

    Outputs are flattened to a tuple, those that are None left out. `input_names` and `output_names` say what is what.
    The graph computes each value once, and only what an output reads; what the network writes into its own tensors is
    settled as codeq/graph/state.py says.

    Args:
        model: In the mode in which it is to be traced.
        example_inputs: Float or integer tensors whose first dimension is the batch.
        names: Of the arguments that they are, as `split_inputs` gives them; none if they go by position.
        dynamic_batch: Leave the batch size open. The network must then not depend on it.
        state: What becomes of buffers that one call leaves for the next.

    Raises:
        TraceError: torch.export refuses the network (its reason in one line), an output is no tensor, the network
            computes in half precision, as under an autocast of its own, or it keeps state that is refused.
    """
    # torch.export takes a batch of 1 for a constant, and one tensor in two places for one input.
    example_inputs = tuple(torch.cat([x, x]) if dynamic_batch and len(x) == 1 else x.clone() for x in example_inputs)
    arguments = () if names else example_inputs
    keywords = dict(zip(names, example_inputs, strict=True)) if names else {}
    answered: dict[str, Tensor] = {}

    def flatten(_: nn.Module, inputs: Any, outputs: Any) -> tuple[Tensor, ...]:
        answered.clear()
        answered.update(named_outputs(model, outputs))
        return tuple(answered.values())

    def trace_flattened() -> ExportedProgram:
        root = _with_hooks(model)
        hook = root.register_forward_hook(flatten)
        try:
            shapes = None
            if dynamic_batch:
                batch = Dim("batch", min=1)
                collection = ShapesCollection()
                for tensor in example_inputs:
                    collection[tensor] = {0: batch}
                shapes = collection.dynamic_shapes(root, arguments, keywords)
            return torch.export.export(root, arguments, keywords, dynamic_shapes=shapes)
        finally:
            hook.remove()

    def call_copies() -> None:
        call(model, tuple(tensor.clone() for tensor in example_inputs), names)

    try:
        # With gradients, so that torch.no_grad in the network is seen wherever it is traced.
        with quiet_torch(), autocast_off(), torch.enable_grad(), observers_off(model, call_copies):
            exported = trace_flattened()
    except TraceError:
        raise
    except Exception as error:  # torch.export raises dozens of types; all mean that this network has no graph
        if dynamic_batch:
            _refuse_state_of_one(model, example_inputs, names)
        raise TraceError(f"torch.export cannot trace {type(model).__name__}: {first_line(error)}") from error
    inline_regions(exported)
    _use_first_names(exported, model)
    _name_inputs(exported, names)
    _mark_constants(exported)
    settle_state(exported, functionalize(exported), state)
    remove_dead_code(exported)
    _mark_constants(exported)
    _refuse_half_precision(exported.graph, type(model).__name__)
    _name_outputs(exported, tuple(answered))
    remove_no_ops(exported)
    add_head_axis(exported)
    for node in exported.graph.nodes:
        depends_on_input(node)  # noted in the graph's order, so that no chain is too deep to follow
    return exported


def _use_first_names(exported: ExportedProgram, model: nn.Module) -> None:
    """Call the tensors of a module that has several names by the first one, as `named_parameters` does, and read each
    from one placeholder."""
    first: dict[int, str] = {}
    owners = {name: first.setdefault(id(module), name) for name, module in model.named_modules(remove_duplicate=False)}

    def renamed(name: str) -> str:
        owner, dot, tensor = name.rpartition(".")
        return f"{owners.get(owner, owner)}{dot}{tensor}"

    signature, state = exported.graph_signature, dict(exported.state_dict)
    for spec in (*signature.input_specs, *signature.output_specs):
        if spec.target in state:
            spec.target = renamed(spec.target)
    exported.state_dict.clear()
    exported.state_dict.update({renamed(name): tensor for name, tensor in state.items()})
    placeholders = {node.name: node for node in exported.graph.nodes if node.op == "placeholder"}
    known: dict[str, Node] = {}
    for spec in list(signature.input_specs):
        if spec.target in exported.state_dict:
            node = placeholders[spec.arg.name]
            if known.setdefault(spec.target, node) is not node:
                node.replace_all_uses_with(known[spec.target])
                exported.graph.erase_node(node)
                signature.input_specs.remove(spec)


def _with_hooks(model: nn.Module) -> nn.Module:
    """Give a module whose hooks torch.export runs: an fx.GraphModule it interprets without, so its code gets a root."""
    if not isinstance(model, GraphModule):
        return model
    getattr(model, "real_recompile", lambda: None)()  # of a lazy one, which has no code yet
    kind = type(model)
    plain: type[nn.Module] = type(kind.__name__, (nn.Module,), {"forward": kind.forward, "__module__": kind.__module__})
    root = plain.__new__(plain)
    root.__dict__ = model.__dict__  # the same parameters, modules and hooks
    return root


def _refuse_state_of_one(model: nn.Module, example_inputs: tuple[Tensor, ...], names: tuple[str, ...]) -> None:
    """Refuse state that fits a batch of 1 alone, such as a cache: with an open batch its size is what seems wrong."""
    try:
        trace(model, tuple(tensor[:1] for tensor in example_inputs), names, dynamic_batch=False)
    except StateError:
        raise
    except TraceError:
        return


def _name_inputs(exported: ExportedProgram, names: tuple[str, ...]) -> None:
    targets = {spec.arg.name: spec.target for spec in exported.graph_signature.input_specs}
    inputs = [node for node in exported.graph.nodes if node.op == "placeholder" and targets[node.name] is None]
    names = names or (("input",) if len(inputs) == 1 else tuple(node.name for node in inputs))
    for node, name in zip(inputs, names, strict=True):
        node.meta["input_name"] = name


def _mark_constants(exported: ExportedProgram) -> None:
    """Note for every node whether it is constant: parameters, buffers and what is made of them alone."""
    for node in exported.graph.nodes:
        if node.op == "placeholder":
            node.meta["constant"] = "input_name" not in node.meta
        else:
            node.meta["constant"] = node.op != "output" and all(map(is_constant, node.all_input_nodes))


def _name_outputs(exported: ExportedProgram, names: tuple[str, ...]) -> None:
    exported.graph.output_node().meta["output_names"] = (*names, *state_tensors(exported))


def _refuse_half_precision(graph: Graph, network: str) -> None:
    for node in graph.nodes:
        dtype = getattr(node.meta.get("val"), "dtype", None)
        if operator_name(node) and dtype in HALF_PRECISION:
            raise TraceError(
                f"{scope(node)[0] or network}: {operator_name(node)} computes in {dtype}, expected torch.float32; "
                "take torch.autocast and casts out of forward, or unwrap the network first "
                "(accelerate: unwrap_model(model, keep_fp32_wrapper=False))"
            )
