"""The reference program is a torch.export graph whose quantized weights are int8 codes behind a dequantize operator.

It runs in PyTorch, and every runtime's file is made from it. The helpers below edit its tensors in place.
"""

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, InputSpec, TensorArgument
from torch.fx import Node
from torch.fx.node import map_arg

from codeq.activations.encoding import ActivationEncoding
from codeq.activations.plan import FloatLayer
from codeq.activations.rules import IntegerKind
from codeq.errors import TraceError
from codeq.graph.nodes import GraphRunner, is_constant, state_name
from codeq.graph.random_numbers import random_layers
from codeq.graph.state import StateError
from codeq.graph.trace import trace
from codeq.quantizer.attach import quantized_weights
from codeq.quantizer.grid import WeightEncoding
from codeq.quantizer.reparametrized import reparametrized
from export.errors import ExportError
from export.program.dequantize import replace_quantizer

STATE_IO = (
    'or write a float32 ONNX file that has it as an input and an output: export_onnx(..., state="io"), --state io'
)
"""The way out for a network with state, which one file format offers."""


@dataclass(eq=False)
class WeightRecord:
    """Describes one quantized weight of a program.

    Attributes:
        name: As in `codeq.encode`, e.g. `layer1.0.conv1.weight`.
        encoding: As stored now: after folding, per channel and possibly with channels negated.
        batch_norm: Name of the BatchNorm folded into it, e.g. `layer1.0.bn1`; None if none was.
        space_to_depth: Zeros before its two spatial axes, where export/program/space_to_depth.py has rearranged it.
    """

    name: str
    encoding: WeightEncoding
    batch_norm: str | None = None
    space_to_depth: tuple[int, int] | None = None


@dataclass(frozen=True)
class QuantizedLayer:
    """Describes one layer of a program that computes in integers.

    Attributes:
        name, operator: E.g. `layer1.0.conv1` and `conv2d`.
        kind: What it computes; each runtime has its own name for the kernel that does it.
    """

    name: str
    operator: str
    kind: IntegerKind


@dataclass(frozen=True, eq=False)
class ActivationRecord:
    """Holds the activations of a program, as they were quantized.

    Attributes:
        layers: Those that compute in integers.
        float_layers: The others, with the reason.
        encodings: The grid of every quantized tensor, by name.
        exclude: The patterns of layers that were left out.
        float_outputs: What the program computed before, for the first inputs of the check.
        too_wide: Tensors that stay float since 8 bits cannot hold them, with the reason.
        noise: What 8 bits leave of each operator that reads a quantized tensor: its signal to noise in dB, by the
            layer's name, on the inputs of `float_outputs`.
    """

    layers: tuple[QuantizedLayer, ...]
    float_layers: tuple[FloatLayer, ...]
    encodings: Mapping[str, ActivationEncoding]
    exclude: tuple[str, ...]
    float_outputs: tuple[np.ndarray, ...]
    too_wide: Mapping[str, str] = field(default_factory=dict)
    noise: Mapping[str, float] = field(default_factory=dict)


@dataclass(eq=False)
class ReferenceProgram:
    """Describes an exported graph, its quantized weights by state name, and why a BatchNorm was left alone.

    `activations` is None where activations are float32. `removed_channels` counts what the network had before it was
    traced, and no output depended on.
    """

    exported: ExportedProgram
    weights: dict[str, WeightRecord]
    skipped_folds: dict[str, str] = field(default_factory=dict)
    activations: ActivationRecord | None = None
    removed_channels: int = 0

    def largest_code(self) -> int:
        """Give the largest magnitude of any weight's codes; 0 where there is none."""
        codes = [record.encoding.codes for record in self.weights.values()]
        return max((int(tensor.abs().max()) for tensor in codes if tensor.numel()), default=0)

    def run(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Compute in PyTorch, activations fake-quantized where they are quantized; outputs flattened to a tuple."""
        with torch.no_grad():
            return GraphRunner(self.exported).compute(inputs)


def build_reference_program(
    model: nn.Module,
    example_inputs: tuple[Tensor, ...],
    encodings: dict[str, WeightEncoding],
    *,
    names: tuple[str, ...] = (),
    dynamic_batch: bool = True,
    keep_state: bool = False,
) -> ReferenceProgram:
    """Trace a network with its codes in place of its float weights. The network itself is not changed.

    Args:
        model: Attached or plain; traced in eval mode.
        example_inputs: Float or integer tensors whose first dimension is the batch.
        encodings: From `codeq.encode(model)`.
        names: Of the arguments that the inputs are, where they are given by name.
        dynamic_batch: Leave the batch size open. The network must then not depend on it.
        keep_state: Make buffers that one call leaves for the next inputs and outputs, the last of both.

    Raises:
        ExportError: torch.export refuses the network, it computes in half precision, draws random numbers, or has state
            that is not to be kept, or a hook computes a weight; the reason in one line.
    """
    for item in reparametrized(model):
        if not item.copies:
            raise ExportError(f"{item.way_out}; the network cannot be copied as it is")
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

    try:
        exported = trace(
            traced, example_inputs, names, dynamic_batch=dynamic_batch, state="io" if keep_state else "refuse"
        )
    except StateError as error:
        raise ExportError(f"{error}, {STATE_IO}") from error
    except TraceError as error:
        raise ExportError(str(error)) from error
    random = random_layers(exported)
    if random:
        raise ExportError(
            f"{random[0]} draws random numbers: {type(model).__name__} answers differently on the same input, in eval "
            "mode too, and no file can be held to it; draw none where self.training is False"
        )
    return ReferenceProgram(exported, weights)


def set_tensor(program: ReferenceProgram, node: Node, value: Tensor) -> None:
    """Replace the tensor behind a placeholder; its shape may change."""
    name = state_name(program.exported, node)
    assert name is not None
    program.exported.state_dict[name] = value
    node.meta["val"] = _fake_mode(program).from_tensor(value, static_shapes=True)


def add_tensor(program: ReferenceProgram, name: str, value: Tensor) -> Node:
    """Give a program one more buffer; returns its placeholder.

    Raises:
        ExportError: The network has a tensor of that name.
    """
    graph = program.exported.graph
    if name in program.exported.state_dict or name in program.exported.constants:
        raise ExportError(f"the network's own tensor {name!r} has the name of one that the export adds; rename it")
    first = next(iter(graph.nodes))
    taken = {node.name for node in graph.nodes}
    label = re.sub(r"\W", "_", f"b_{name}")
    while label in taken:
        label += "_"
    with graph.inserting_before(first):
        node = graph.placeholder(label)
    spec = InputSpec(InputKind.BUFFER, TensorArgument(node.name), name, persistent=True)
    program.exported.graph_signature.input_specs.insert(0, spec)
    program.exported.state_dict[name] = value
    node.meta["val"] = _fake_mode(program).from_tensor(value, static_shapes=True)
    node.meta["constant"] = True
    return node


def constant_value(program: ReferenceProgram, node: Node) -> Tensor | None:
    """Say what a node that depends on no input computes, such as a part of a packed bias; None for another one."""
    if not is_constant(node):
        return None
    known: dict[Node, Any] = {}

    def value(operand: Node) -> Any:
        if operand not in known:
            name = state_name(program.exported, operand)
            if name is not None:
                known[operand] = {**program.exported.constants, **program.exported.state_dict}[name]
            else:
                args, keywords = map_arg((operand.args, operand.kwargs), value)
                known[operand] = operand.target(*args, **keywords)  # type: ignore[operator]
        return known[operand]

    with torch.no_grad():
        result = value(node)
    return result if isinstance(result, Tensor) else None


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
