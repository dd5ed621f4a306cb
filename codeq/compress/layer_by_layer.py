"""Walk through a network once, operator by operator, for all calibration inputs, and replace weights on the way.

Two streams are kept: what the float network computes, and what the network computes whose weights so far are replaced.
A layer is therefore decided with the inputs that it will really get, and what is lost before it can be made up for.
Values are freed after their last reader: the most that is held is what the network holds for that many inputs, twice.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.fx import Node
from torch.fx.node import map_arg

from codeq.compress.columns import Layer, layer_of
from codeq.compress.moments import estimate
from codeq.compress.problem import LayerProblem
from codeq.graph.autocast import autocast_off
from codeq.graph.nodes import is_constant, state_name
from codeq.quantizer.power import Power

POSITIONS = 64
"""Places of a feature map that count for the moments of a convolution, of each input."""
BATCH_NORMS = frozenset({torch.ops.aten.batch_norm.default})

Decide = Callable[[str, Layer | None, Callable[[], list[LayerProblem]], Callable[[], float]], Tensor]
"""Gives the new value of a weight from its name, the layer that reads it (None where no layer does as it is), what
gathers its problems, one per group, and what gives the largest magnitude of what the layer reads."""


@dataclass(frozen=True)
class Walked:
    """Holds what a walk left.

    Attributes:
        tensors: New values of weights, biases and statistics of BatchNorms, by their names in the network.
        powers: Signal and noise of each layer's result next to the float network's, by the weight's name, after
            corrections.
        alone: Likewise where a layer reads what the float network gives it, for the first batch: what its own codes
            lose.
        outputs: Likewise of each output of the network.
        elsewhere: Weights that no layer reads as it is, with the operator that does.
    """

    tensors: Mapping[str, Tensor]
    powers: Mapping[str, Power]
    alone: Mapping[str, Power]
    outputs: tuple[Power, ...]
    elsewhere: Mapping[str, str]


@torch.no_grad()
@autocast_off()
def walk(
    exported: ExportedProgram,
    batches: Sequence[tuple[Tensor, ...]],
    weights: Mapping[str, str],
    decide: Decide,
    *,
    correct: bool = True,
    start: Mapping[str, Tensor] | None = None,
    seed: int = 0,
    on_progress: Callable[[float, str], None] = lambda share, detail: None,
) -> Walked:
    """Replace weights one after the other, in the order in which the network reads them.

    Args:
        exported: The float network, traced.
        batches: Calibration inputs, each in the order of the network's arguments.
        weights: Names of tensors in the graph to names of weights: what is replaced. Several of one weight get one
            value, chosen where the first of them is read.
        decide: Says by what.
        correct: Correct biases and the statistics of BatchNorms, so that every channel keeps its mean, and behind a
            BatchNorm its deviation too (Nagel et al. 2019, arXiv:1906.04721, section 4.2, with what calibration gives).
        start: Tensors that the compressed network has from the beginning, by their names in the network; weights that
            are replaced are not read from here.
        seed: Of the places that count.
        on_progress: Called with the share done, 0 to 1, and the weight that is next.
    """
    return _Walk(exported, batches, weights, decide, correct, start or {}, seed, on_progress).run()


class _Walk:
    def __init__(
        self,
        exported: ExportedProgram,
        batches: Sequence[tuple[Tensor, ...]],
        weights: Mapping[str, str],
        decide: Decide,
        correct: bool,
        start: Mapping[str, Tensor],
        seed: int,
        on_progress: Callable[[float, str], None],
    ) -> None:
        self.exported, self.batches, self.weights, self.decide = exported, batches, weights, decide
        self.correct, self.start, self.seed, self.on_progress = correct, start, seed, on_progress
        self.nodes = list(exported.graph.nodes)
        last: dict[Node, Node] = {}
        for node in self.nodes:
            for operand in node.all_input_nodes:
                last[operand] = node
        self.free: dict[Node, list[Node]] = {}
        for operand, reader in last.items():
            self.free.setdefault(reader, []).append(operand)
        self.constants: tuple[dict[Node, Any], dict[Node, Any]] = ({}, {})
        self.values: tuple[list[dict[Node, Any]], ...] = tuple([{} for _ in batches] for _ in range(2))
        self.tensors: dict[str, Tensor] = {}
        self.decided: dict[str, Tensor] = {}
        self.powers: dict[str, Power] = {}
        self.alone: dict[str, Power] = {}
        self.elsewhere: dict[str, str] = {}

    def run(self) -> Walked:
        self._place_inputs()
        done = 0
        outputs: tuple[Power, ...] = ()
        for node in self.nodes:
            if node.op == "output":
                outputs = tuple(self._compare(result) for result in node.args[0] if isinstance(result, Node))
            if node.op == "call_function":
                names = self._weights_of(node)
                if names:
                    self.on_progress(done / max(1, len(self.weights)), next(iter(names.values())))
                    done += len(names)
                    self._replace(node, names)
                for stream in range(2):
                    self._compute(node, stream)
                self._correct(node, names)
            for operand in self.free.get(node, ()):
                for stream in range(2):
                    for values in self.values[stream]:
                        values.pop(operand, None)
        self.on_progress(1.0, "")
        return Walked(self.tensors, self.powers, self.alone, outputs, self.elsewhere)

    def _place_inputs(self) -> None:
        stored = {**self.exported.constants, **self.exported.state_dict}
        nodes = {node.name: node for node in self.nodes if node.op == "placeholder"}
        number = 0
        for spec in self.exported.graph_signature.input_specs:
            node = nodes[spec.arg.name]
            if spec.kind is InputKind.USER_INPUT:
                for stream in range(2):
                    for values, batch in zip(self.values[stream], self.batches, strict=True):
                        values[node] = batch[number]
                number += 1
            else:
                target = str(spec.target)
                own = stored[target].detach()
                self.constants[0][node] = own
                self.constants[1][node] = own if target in self.weights else self.start.get(target, own).detach()

    def _compute(self, node: Node, stream: int) -> None:
        constants = self.constants[stream]
        if is_constant(node):
            constants[node] = self._call(node, constants)
            return
        for values in self.values[stream]:
            values[node] = self._call(node, constants, values)

    @staticmethod
    def _call(node: Node, constants: Mapping[Node, Any], values: Mapping[Node, Any] | None = None) -> Any:
        def read(operand: Node) -> Any:
            return constants[operand] if operand in constants else (values or {})[operand]

        args, keywords = map_arg((node.args, node.kwargs), read)
        return node.target(*args, **keywords)  # type: ignore[operator]

    def _weights_of(self, node: Node) -> dict[Node, str]:
        """The weights that a node reads and that are still to be replaced."""
        found = {operand: state_name(self.exported, operand) for operand in node.all_input_nodes}
        return {
            operand: self.weights[name]
            for operand, name in found.items()
            if name is not None and name in self.weights and name not in self.tensors
        }

    def _replace(self, node: Node, names: Mapping[Node, str]) -> None:
        for operand, name in names.items():
            layer = layer_of(node) if len(node.args) > 1 and node.args[1] is operand else None
            if layer is None and name not in self.decided:
                self.elsewhere[name] = str(node.target)
            if name not in self.decided:
                gather, largest = partial(self._problems, node, operand, layer), partial(self._largest, node)
                self.decided[name] = self.decide(name, layer, gather, largest)
            value = self.decided[name]
            target = state_name(self.exported, operand)
            assert target is not None
            self.tensors[target] = value
            self.constants[1][operand] = value

    def _problems(self, node: Node, operand: Node, layer: Layer | None) -> list[LayerProblem]:
        if layer is None:
            return []
        source = node.args[0]
        assert isinstance(source, Node)
        matrix = layer.matrix(self.constants[0][operand])
        seen: tuple[list[Tensor], list[Tensor]] = ([], [])
        for batch in zip(*self.values, strict=True):
            for stream, values in enumerate(batch):
                x = values[source] if source in values else self.constants[stream][source]
                generator = torch.Generator().manual_seed(self.seed)  # the same places in both
                columns = layer.columns(x, POSITIONS, generator)
                seen[stream].append(columns.unflatten(1, (len(x), -1)))
        original, compressed = (zip(*stream, strict=True) for stream in seen)  # by group, then batch
        return [
            LayerProblem(weight, *estimate(xs, ys)) for weight, xs, ys in zip(matrix, compressed, original, strict=True)
        ]

    def _largest(self, node: Node) -> float:
        source = node.args[0]
        assert isinstance(source, Node)
        values = [part[source] for part in self.values[1] if source in part] or [self.constants[1][source]]
        return max(float(value.abs().amax()) for value in values)

    def _correct(self, node: Node, names: Mapping[Node, str]) -> None:
        if self.correct and node.target in BATCH_NORMS:
            self._correct_batch_norm(node)
        layer = layer_of(node) if names else None
        if layer is None:
            return
        if self.correct:
            self._correct_bias(node, layer)
        for operand, name in names.items():
            if name not in self.powers:
                self.powers[name] = self._compare(node)
                self.alone[name] = self._compare_alone(node, operand)

    def _correct_bias(self, node: Node, layer: Layer) -> None:
        bias = node.args[2] if len(node.args) > 2 else None
        if not isinstance(bias, Node):
            return
        name = state_name(self.exported, bias)
        if name is None or name in self.tensors:
            return
        floats, replaced = (self._channel_moments(node, stream, layer.channel_axis)[0] for stream in range(2))
        shift = (floats - replaced).float()
        self.tensors[name] = self.constants[1][bias] + shift
        self.constants[1][bias] = self.tensors[name]
        self._compute(node, 1)

    def _correct_batch_norm(self, node: Node) -> None:
        source, _, _, mean, variance = node.args[:5]
        assert isinstance(source, Node)
        assert isinstance(mean, Node)
        assert isinstance(variance, Node)
        names = [state_name(self.exported, operand) for operand in (mean, variance)]
        if None in names or any(name in self.tensors for name in names) or is_constant(source):
            return
        (float_mean, float_variance), (new_mean, new_variance) = (
            self._channel_moments(source, stream, 1) for stream in range(2)
        )
        old_mean, old_variance = (self.constants[0][operand].double() for operand in (mean, variance))
        ratio = torch.where(float_variance > 0, new_variance / float_variance, torch.ones_like(float_variance))
        ratio = ratio.clamp(0.25, 4.0)
        # The float network's own statistics stay the measure: calibration gives only by how much they have moved.
        moved = new_mean + (old_mean - float_mean) * ratio.sqrt()
        for operand, name, value in zip((mean, variance), names, (moved, old_variance * ratio), strict=True):
            assert name is not None
            self.tensors[name] = self.constants[1][operand] = value.float()
        self._compute(node, 1)

    def _channel_moments(self, node: Node, stream: int, axis: int) -> tuple[Tensor, Tensor]:
        """Mean and variance of every channel over all inputs and places, float64 `(C,)`."""
        means, variances, counts = [], [], []
        for values in self.values[stream]:
            x = values[node]
            others = [other for other in range(x.ndim) if other != axis % x.ndim]
            variance, mean = torch.var_mean(x, others, correction=0)
            means.append(mean.double())
            variances.append(variance.double())
            counts.append(x.numel() / mean.numel())
        shares = (torch.tensor(counts, dtype=torch.float64) / sum(counts))[:, None]
        stacked = torch.stack(means)
        mean = (shares * stacked).sum(0)
        return mean, (shares * (torch.stack(variances) + (stacked - mean).square())).sum(0)

    def _compare_alone(self, node: Node, weight: Node) -> Power:
        power = Power()
        constants = {**self.constants[0], weight: self.constants[1][weight]}
        for values in self.values[0][:1]:
            power.add(values[node], self._call(node, constants, values))
        return power

    def _compare(self, node: Node) -> Power:
        power = Power()
        for floats, replaced in zip(*self.values, strict=True):
            if node in floats and floats[node].is_floating_point():
                power.add(floats[node], replaced[node])
        return power
