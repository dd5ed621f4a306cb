"""The reference program: a torch.export graph whose quantized weights are int8 codes behind a dequantize operator.

It runs in PyTorch, and every runtime's file is made from it. The helpers below edit its tensors in place.
"""

import copy
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import InputKind, InputSpec, TensorArgument
from torch.fx import Node

from codeq.attach import quantized_weights
from codeq.errors import first_line
from codeq.grid import WeightEncoding
from export.dequantize import replace_quantizer
from export.errors import ExportError
from export.quiet import quiet_torch


@dataclass(eq=False)
class WeightRecord:
    """One quantized weight of a program.

    Attributes:
        name: As in `codeq.encode`, e.g. `layer1.0.conv1.weight`.
        encoding: As stored now: after folding, per channel and possibly with channels negated.
        batch_norm: Name of the BatchNorm folded into it, e.g. `layer1.0.bn1`; None if none was.
        value_name: The value that holds it in the lowered graph; None where the network does not use it.
    """

    name: str
    encoding: WeightEncoding
    batch_norm: str | None = None
    value_name: str | None = None


@dataclass(eq=False)
class ReferenceProgram:
    """An exported graph, its quantized weights by state name, and why a BatchNorm was left alone."""

    exported: ExportedProgram
    weights: dict[str, WeightRecord]
    skipped_folds: dict[str, str] = field(default_factory=dict)

    def run(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Compute in PyTorch; outputs flattened to a tuple."""
        outputs = self.exported.module()(*inputs)
        leaves, _ = torch.utils._pytree.tree_flatten(outputs)
        return tuple(leaves)


def build_reference_program(
    model: nn.Module,
    example_inputs: tuple[Tensor, ...],
    encodings: dict[str, WeightEncoding],
    *,
    dynamic_batch: bool = True,
) -> ReferenceProgram:
    """Trace a network with its codes in place of its float weights. The network itself is not changed.

    Args:
        model: Attached or plain; traced in eval mode.
        example_inputs: Float or integer tensors whose first dimension is the batch.
        encodings: From `codeq.encode(model)`.
        dynamic_batch: Leave the batch size open. The network must then not depend on it.

    Raises:
        ExportError: torch.export refuses the network; its reason in one line.
    """
    traced = copy.deepcopy(model).eval()
    weights = {}
    for weight in list(quantized_weights(traced)):
        encoding = encodings[weight.name]
        replace_quantizer(weight, encoding)
        layer, _, tensor_name = weight.name.rpartition(".")
        state_name = f"{layer}.parametrizations.{tensor_name}.original".lstrip(".")
        weights[state_name] = WeightRecord(weight.name, encoding)
    for parameter in traced.parameters():
        parameter.requires_grad_(False)

    shapes = None
    if dynamic_batch:
        batch = Dim("batch", min=1)
        shapes = tuple({0: batch} for _ in example_inputs)
        # torch.export takes a batch of 1 for a constant.
        example_inputs = tuple(torch.cat([x, x]) if x.shape[0] == 1 else x for x in example_inputs)
    try:
        with quiet_torch():
            exported = torch.export.export(traced, example_inputs, dynamic_shapes=shapes)
    except Exception as error:  # torch.export raises dozens of types; all mean that this network has no graph
        raise ExportError(f"torch.export cannot trace {type(model).__name__}: {first_line(error)}") from error
    for index, spec in enumerate(exported.graph_signature.output_specs):
        if not isinstance(spec.arg, TensorArgument):
            found = getattr(spec.arg, "value", spec.arg)
            raise ExportError(f"output {index} of {type(model).__name__} is {found!r}, expected a tensor")
    return ReferenceProgram(exported, weights)


def state_name(program: ReferenceProgram, node: Node) -> str | None:
    """The parameter or buffer that a placeholder stands for; None for anything else."""
    signature = program.exported.graph_signature
    if node.op != "placeholder":
        return None
    return signature.inputs_to_parameters.get(node.name) or signature.inputs_to_buffers.get(node.name)


def set_tensor(program: ReferenceProgram, node: Node, value: Tensor) -> None:
    """Replace the tensor behind a placeholder; its shape may change."""
    name = state_name(program, node)
    assert name is not None
    program.exported.state_dict[name] = value
    node.meta["val"] = _fake_mode(program).from_tensor(value, static_shapes=True)


def add_tensor(program: ReferenceProgram, name: str, value: Tensor) -> Node:
    """Give a program one more buffer; returns its placeholder."""
    graph = program.exported.graph
    with graph.inserting_before(next(iter(graph.nodes))):
        node = graph.placeholder("b_" + name.replace(".", "_"))
    spec = InputSpec(InputKind.BUFFER, TensorArgument(node.name), name, persistent=True)
    program.exported.graph_signature.input_specs.insert(0, spec)
    program.exported.state_dict[name] = value
    node.meta["val"] = _fake_mode(program).from_tensor(value, static_shapes=True)
    return node


def replace_node(program: ReferenceProgram, old: Node, new: Node) -> None:
    """Let everything that read `old` read `new`, the program's outputs included, and remove `old`."""
    old.replace_all_uses_with(new)
    program.exported.graph_signature.replace_all_uses(old.name, new.name)
    program.exported.graph.erase_node(old)


def remove_unused_tensors(program: ReferenceProgram) -> None:
    """Drop parameters and buffers that no node reads any more, and validate the graph."""
    exported = program.exported
    placeholders = {node.name: node for node in exported.graph.nodes if node.op == "placeholder"}
    specs = exported.graph_signature.input_specs
    for spec in list(specs):
        node = placeholders[spec.arg.name]
        if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER) and not node.users:
            exported.graph.erase_node(node)
            specs.remove(spec)
            exported.state_dict.pop(spec.target, None)
    exported.graph_module.recompile()
    exported.validate()


def _fake_mode(program: ReferenceProgram) -> torch._subclasses.FakeTensorMode:
    for node in program.exported.graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, torch._subclasses.FakeTensor):
            return value.fake_mode
    raise AssertionError("an exported graph has at least one tensor")
