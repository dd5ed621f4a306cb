"""Measure what 8 bits leave of a network's signals, operator by operator.

    signal to noise = 10 log10(sum of y^2 / sum of (y - z)^2)   dB

y is what an operator computes in float, z what it computes where the quantized tensors that it reads are rounded to
their grids: the noise of that operator's own inputs, whatever came before them. 6 dB are a bit.
"""

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import Node
from torch.fx.node import map_arg

from codeq.activations.encoding import ActivationEncoding
from codeq.activations.moves import is_move
from codeq.activations.plan import ActivationPlan
from codeq.graph.autocast import autocast_off
from codeq.graph.nodes import GraphRunner, layer_names
from codeq.quantizer.power import Power


@torch.no_grad()
@autocast_off()
def measure_noise(
    exported: ExportedProgram,
    plan: ActivationPlan,
    encodings: Mapping[str, ActivationEncoding],
    inputs: tuple[Tensor, ...],
    *,
    tensors: Mapping[str, Tensor] | None = None,
    batch_size: int,
    only: Collection[str] | None = None,
) -> dict[Node, Power]:
    """Measure every operator that reads quantized tensors, those that only move values aside; a layer with its clamp.

    Args:
        exported: The network, activations in float.
        plan: Which of its values are quantized.
        encodings: Their grids, by name.
        inputs: In the order of the network's arguments, batch first.
        tensors: Parameters and buffers by name, where they are not the traced ones.
        batch_size: Inputs per run.
        only: Names of the tensors that are rounded; None for all.
    """
    runner = _TwoFold(exported, plan, encodings, set(plan.tensors.values()) if only is None else set(only))
    for start in range(0, len(inputs[0]), batch_size):
        runner.compute(tuple(tensor[start : start + batch_size] for tensor in inputs), tensors)
    return runner.powers


class _TwoFold(GraphRunner):
    """Runs a network in float, and each reader of a quantized tensor once more on rounded values."""

    def __init__(
        self,
        exported: ExportedProgram,
        plan: ActivationPlan,
        encodings: Mapping[str, ActivationEncoding],
        rounded_names: set[str],
    ) -> None:
        super().__init__(exported, self._compare)
        self.grids = {node: encodings[name] for node, name in plan.tensors.items() if name in rounded_names}
        self.names = layer_names(exported.graph)
        self.head = {layer.tail: layer.head for layer in plan.layers}
        self.inner = {node for layer in plan.layers for node in layer.nodes[:-1]}
        self.rounded: dict[Node, Any] = {}
        self.powers: dict[Node, Power] = {}

    def _compare(self, node: Node, value: Any) -> Any:
        if any(operand in self.rounded for operand in node.all_input_nodes) and node.op == "call_function":
            other = self._again(node)
            if is_move(node) or node in self.inner:
                self.rounded[node] = other
            elif node in self.names:
                power = self.powers.setdefault(self.head.get(node, node), Power())
                for wanted, found in zip(_floats(value), _floats(other), strict=True):
                    power.add(wanted, found)
        if node in self.grids:
            grid = self.grids[node]
            self.rounded[node] = (grid.quantize(value).float() - grid.zero_point) * grid.scale
        for unused in self.user_to_last_uses.get(node, []):
            self.rounded.pop(unused, None)
        return value

    def _again(self, node: Node) -> Any:
        args, keywords = map_arg((node.args, node.kwargs), lambda o: self.rounded.get(o, self.env.get(o)))
        return node.target(*args, **keywords)  # type: ignore[operator]


def _floats(value: Any) -> list[Tensor]:
    parts = value if isinstance(value, tuple | list) else [value]
    return [part for part in parts if isinstance(part, Tensor) and part.is_floating_point()]
