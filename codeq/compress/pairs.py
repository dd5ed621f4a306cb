"""Find channels that can be scaled between the operators of a network without changing what it computes.

    f(s x) = s f(x), s > 0:    W2 f(W1 x + b1) = (W2 S) f(S^-1 W1 x + S^-1 b1),    S = diag(s)

Source: Nagel et al. 2019, arXiv:1906.04721, section 4.1. A channel is followed from where it is made (a layer, or a
norm with weight and bias) through all that keeps f's property and moves whole channels, to every layer that reads it.
What anything else reads keeps its scale: a sum, a concatenation, an output of the network, a clamp at 6, a GELU.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.fx import Node
from torch.fx.node import map_arg
from torch.utils._pytree import tree_leaves

from codeq.compress.columns import Layer, layer_of
from codeq.graph.autocast import autocast_off
from codeq.graph.nodes import GraphRunner, operator_name
from codeq.graph.operators import CLAMPS, MOVES

aten = torch.ops.aten

ELEMENTWISE = frozenset({aten.relu.default, aten.leaky_relu.default, aten.prelu.default, aten.dropout.default})
"""Functions of one value with f(s x) = s f(x); clamps from 0 to infinity are among them too."""
REDUCTIONS = frozenset({aten.mean.dim, aten.amax.default, aten.amin.default})
WINDOWS = frozenset(
    {
        aten.max_pool1d.default,
        aten.max_pool2d.default,
        aten.max_pool3d.default,
        aten.avg_pool1d.default,
        aten.avg_pool2d.default,
        aten.avg_pool3d.default,
        aten.adaptive_avg_pool1d.default,
        aten.adaptive_avg_pool2d.default,
        aten.adaptive_avg_pool3d.default,
        aten.upsample_bilinear2d.vec,
        aten.upsample_linear1d.vec,
    }
)
"""Extremes and weighted means of values that must belong to one channel; windows are of axes behind the second."""
MOVED = MOVES - WINDOWS - REDUCTIONS - {aten.cat.default, aten.index.Tensor, aten.index_select.default}
PRODUCTS = {aten.scaled_dot_product_attention.default: 2, aten.matmul.default: 1, aten.bmm.default: 1}
"""Products with attention weights: at which place the values are, whose channels stay channels."""
NORMS = {aten.batch_norm.default: (1, 1, 2), aten.layer_norm.default: (-1, 2, 3), aten.group_norm.default: (1, 2, 3)}
"""Where norms have their channels, and the places of weight and bias among their arguments."""
NONE = 0.0
"""The number of no channel: zeros of a padding."""


@dataclass(frozen=True)
class ChannelReader:
    """Describes a layer that reads scaled channels.

    Attributes:
        weight, layer: Its name in the graph, and what it computes.
        source: The node that it reads.
        columns: int64 `(C,)`, of each of its input channels the number of the channel that it reads; -1 for others.
        bias: Name of what could take up a constant; None where the layer has no bias of its own.
        padded: Whether it sees zeros around the input.
    """

    weight: str
    layer: Layer
    source: str
    columns: Tensor
    bias: str | None
    padded: bool


@dataclass(frozen=True)
class ChannelPair:
    """Describes channels that are made in one place and read by layers alone.

    Attributes:
        name: The layer or norm that makes them, by the name of its weight in the graph.
        layer: What it computes; None for a norm.
        bias: Added to each channel behind the weight; None where there is none.
        front: The layer that a BatchNorm normalises, if it alone does.
        free: bool `(C,)`, whether all that reads the channel are layers.
        readers: Those layers.
        only_relu: Whether nothing but a relu lies in between.
        stopped_by: Operators that keep other channels as they are.
    """

    name: str
    layer: Layer | None
    bias: str | None
    front: "Front | None"
    free: Tensor
    readers: tuple[ChannelReader, ...]
    only_relu: bool
    stopped_by: tuple[str, ...]


@dataclass(frozen=True)
class Front:
    """Describes a layer in front of a BatchNorm: its rows can be scaled against the BatchNorm's mean and weight.

    Attributes:
        weight, layer, bias: The layer's; bias None where it has none.
        norm: Name of the BatchNorm's weight.
        mean, variance: Names of its statistics.
        eps: Added to the variance.
    """

    weight: str
    layer: Layer
    bias: str | None
    norm: str
    mean: str
    variance: str
    eps: float


@dataclass(frozen=True)
class Found:
    """Holds all pairs of a network in its order, and the layers in front of BatchNorms."""

    pairs: tuple[ChannelPair, ...]
    fronts: tuple[Front, ...]


@torch.no_grad()
@autocast_off()
def find_pairs(exported: ExportedProgram, inputs: tuple[Tensor, ...]) -> Found:
    """Find what can be scaled in a traced network.

    Args:
        exported: The network.
        inputs: One or two inputs, in the order of its arguments: shapes count, not values.
    """
    tracker = _Tracker(exported)
    tracker.compute(inputs)
    return Found(tuple(tracker.pairs()), tuple(tracker.fronts.values()))


@dataclass(eq=False)
class _Made:
    """Collects what becomes of one operator's channels, which have the numbers from `first` on."""

    name: str
    layer: Layer | None
    bias: str | None
    front: Front | None
    first: int
    free: Tensor
    readers: list[ChannelReader] = field(default_factory=list)
    between: set[Any] = field(default_factory=set)
    stopped_by: set[str] = field(default_factory=set)


class _Tracker(GraphRunner):
    """Runs a network, and beside each value that can be scaled the number of the channel that each entry is of."""

    def __init__(self, exported: ExportedProgram) -> None:
        super().__init__(exported)
        stored = {**exported.constants, **exported.state_dict}
        places = {name: tensor.untyped_storage().data_ptr() for name, tensor in stored.items()}
        times = Counter(places.values())
        self.shared = frozenset(name for name, place in places.items() if times[place] > 1)
        kinds = {spec.arg.name: spec for spec in exported.graph_signature.input_specs}
        self.specs = {node: kinds[node.name] for node in exported.graph.nodes if node.op == "placeholder"}
        self.numbers: dict[Node, Tensor] = {}
        self.made: list[_Made] = []
        self.owner: dict[Node, _Made] = {}
        self.fronts: dict[Node, Front] = {}
        self.count = 0

    def compute_node(self, n: Node) -> Any:
        value = super().compute_node(n)
        if n.op == "output":
            self._stop(n, n.all_input_nodes)
        elif n.op == "call_function":
            self._follow(n, value)
            self._start(n, value)
        for operand in self.user_to_last_uses.get(n, []):
            self.numbers.pop(operand, None)
        return value

    def _own(self, node: object, *, buffer: bool = False) -> str | None:
        """Name a parameter (or buffer) that one operator reads, once, and that has one name."""
        if not isinstance(node, Node) or node.op != "placeholder":
            return None
        spec = self.specs[node]
        wanted = InputKind.BUFFER if buffer else InputKind.PARAMETER
        uses = sum(argument is node for user in node.users for argument in tree_leaves((user.args, user.kwargs)))
        if spec.kind is not wanted or uses != 1 or spec.target in self.shared:
            return None
        return spec.target if node.meta["val"].dtype == torch.float32 else None

    def _stop(self, node: Node, operands: Any) -> None:
        for operand in operands:
            if operand in self.numbers:
                made = self.owner[operand]
                kept = self.numbers[operand].unique().long() - made.first
                made.free[kept[kept >= 0]] = False
                made.stopped_by.add(operator_name(node) or "output")

    def _follow(self, node: Node, value: Any) -> None:
        read = [operand for operand in node.all_input_nodes if operand in self.numbers]
        if not read:
            return
        layer = layer_of(node)
        values = node.args[PRODUCTS[node.target]] if node.target in PRODUCTS else None
        if isinstance(values, Node) and values in self.numbers:
            self._stop(node, [operand for operand in read if operand is not values])
            one = _one_channel(self.numbers[values], [-2], keepdim=True)
            if one is None:
                self._stop(node, [values])
            else:
                self._pass(values, node, one.expand(value.shape))
            return
        source = read[0]
        if layer is not None and read == [node.args[0]]:
            if not self._read(node, layer):
                self._stop(node, read)
            return
        numbers = self._numbers_behind(node, value) if len(read) == 1 and source is node.args[0] else None
        if numbers is None:
            self._stop(node, read)
            return
        self._pass(source, node, numbers)

    def _pass(self, source: Node, node: Node, numbers: Tensor) -> None:
        self.numbers[node], self.owner[node] = numbers, self.owner[source]
        self.owner[node].between.add(node.target)

    def _numbers_behind(self, node: Node, value: Any) -> Tensor | None:
        """Say which channel each entry of a node's value is of; None where it is not so simple."""
        source = node.args[0]
        assert isinstance(source, Node)
        numbers = self.numbers[source]
        clamps = node.target in CLAMPS and CLAMPS[node.target](node) == (0.0, float("inf"))
        if node.target in ELEMENTWISE or clamps:
            return numbers
        if node.target in MOVED:
            if node.target in (aten.pad.default, aten.constant_pad_nd.default) and not _pads_zeros(node):
                return None
            arguments = map_arg((node.args[1:], node.kwargs), lambda operand: self.env[operand])
            moved: Tensor = node.target(numbers.contiguous(), *arguments[0], **arguments[1])
            return moved
        if node.target in REDUCTIONS:
            keepdim = bool(node.args[2]) if len(node.args) > 2 else False
            return _one_channel(numbers, list(node.args[1] or ()), keepdim=keepdim)  # type: ignore[arg-type]
        if node.target in WINDOWS:
            one = _one_channel(numbers, list(range(2, numbers.ndim)), keepdim=True)
            return None if one is None else one.expand(value.shape)
        return None

    def _read(self, node: Node, layer: Layer) -> bool:
        """Note a layer as reader; False where its weight is not its own or channels are mixed within its columns."""
        source = node.args[0]
        assert isinstance(source, Node)
        weight = self._own(node.args[1])
        numbers = self.numbers[source].movedim(layer.channel_axis, 0).flatten(1)
        one = _one_channel(numbers, [1])
        if weight is None or one is None:
            return False
        made = self.owner[source]
        columns = torch.where(one == NONE, -1, one.long() - made.first)
        bias = self._own(node.args[2]) if len(node.args) > 2 else None
        padded = any(map(any, layer.padding)) or layer.transposed or bool((numbers == NONE).any())
        made.readers.append(ChannelReader(weight, layer, source.name, columns, bias, padded))
        return True

    def _start(self, node: Node, value: Any) -> None:
        """Give numbers to the channels of a layer or norm whose tensors are its own."""
        layer = layer_of(node)
        if layer is not None:
            weight, bias = node.args[1], node.args[2] if len(node.args) > 2 else None
            axis = layer.channel_axis
        elif node.target in NORMS:
            axis, *places = NORMS[node.target]
            weight, bias = (node.args[place] if len(node.args) > place else None for place in places)
            if node.target is aten.layer_norm.default and len(node.args[1]) != 1:  # type: ignore[arg-type]
                return
        else:
            return
        name, bias_name = self._own(weight), self._own(bias)
        if name is None or (bias is not None and bias_name is None):
            return
        channels = value.shape[axis]
        shape = [1] * value.ndim
        shape[axis] = channels
        first = self.count + 1
        self.count += channels
        front = self._front(node, name) if node.target is aten.batch_norm.default else None
        made = _Made(name, layer, bias_name, front, first, torch.ones(channels, dtype=torch.bool))
        self.made.append(made)
        self.numbers[node] = torch.arange(first, first + channels).float().reshape(shape).expand(value.shape)
        self.owner[node] = made

    def _front(self, norm: Node, name: str) -> Front | None:
        node = norm.args[0]
        layer = layer_of(node) if isinstance(node, Node) and len(node.users) == 1 else None
        if layer is None or bool(norm.args[5]):
            return None
        assert isinstance(node, Node)
        weight, mean, variance = (
            self._own(node.args[1]),
            self._own(norm.args[3], buffer=True),
            self._own(norm.args[4], buffer=True),
        )
        bias_node = node.args[2] if len(node.args) > 2 else None
        bias = self._own(bias_node)
        if None in (weight, mean, variance) or (bias_node is not None and bias is None):
            return None
        assert weight is not None
        assert mean is not None
        assert variance is not None
        front = Front(weight, layer, bias, name, mean, variance, float(norm.args[7]))  # type: ignore[arg-type]
        self.fronts[norm] = front
        return front

    def pairs(self) -> Iterator[ChannelPair]:
        """Yield what has readers."""
        for made in self.made:
            read = torch.zeros_like(made.free)
            for reader in made.readers:
                read[reader.columns[reader.columns >= 0]] = True
            free = made.free & read
            if bool(free.any()) and made.readers:
                only_relu = made.between <= {aten.relu.default, aten.dropout.default, aten.pad.default}
                only_relu = only_relu and aten.relu.default in made.between
                stops = tuple(sorted(made.stopped_by))
                parts = (made.name, made.layer, made.bias, made.front, free, tuple(made.readers), only_relu, stops)
                yield ChannelPair(*parts)


def _one_channel(numbers: Tensor, axes: list[int], *, keepdim: bool = False) -> Tensor | None:
    """Reduce numbers over axes along which there is but one channel, zeros left out; None where there are several."""
    if not axes:
        return None
    high = numbers.amax(axes, keepdim=keepdim)
    low = torch.where(numbers == NONE, torch.inf, numbers).amin(axes, keepdim=keepdim)
    return high if bool(((low == high) | (high == NONE)).all()) else None


def _pads_zeros(node: Node) -> bool:
    mode = node.args[2] if node.target is aten.pad.default and len(node.args) > 2 else "constant"
    place = 3 if node.target is aten.pad.default else 2
    return mode == "constant" and not (node.args[place] if len(node.args) > place else 0)
