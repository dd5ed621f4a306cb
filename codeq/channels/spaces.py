"""Channels that live or die together are found here, in the traced graph and not by names.

A channel is what a layer makes at one place and others read: the entries that batch norms, depthwise convolutions,
residual sums and concatenations tie to it come along. It is dead once no layer reads it; `shrink` then takes it out, of
every tensor. Entries get numbers, and tied ones share the largest by the rules of rules.py; what an output, a
LayerNorm or an unknown operator needs has the largest of all and stays.
"""

import copy
import logging
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import Node

from codeq.channels.constants import TRANSPOSED, groups_of, is_layer
from codeq.channels.kept import KeptAxes
from codeq.channels.kernel_times import KernelTimes, LayerTimes, tile_of
from codeq.channels.rules import fixed_numbers, settle
from codeq.channels.shrink import shrink
from codeq.channels.tracing import trace_plain
from codeq.cost import summary
from codeq.errors import CodeqError, first_line
from codeq.graph.inputs import Inputs
from codeq.quantizer.attach import QuantizedWeight, detach, quantized_weights

logger = logging.getLogger(__name__)

FIXED = 2**62
NONE = -1
UNTIMED = LayerTimes((1,), (1,), ((0.0,),))
"""What a layer takes of which a table has no times: that is shared out among the others."""


class ChannelLabels(KeptAxes):
    """Numbers the entries of all axes instead of saying which stay."""

    def __init__(self, exported: ExportedProgram) -> None:
        self.given = 0
        super().__init__(exported)

    def none_of(self, size: int) -> Tensor:
        self.given += size
        return torch.arange(self.given - size, self.given) + 1

    def all_of(self, size: int) -> Tensor:
        return torch.full((size,), FIXED)


@dataclass(frozen=True, eq=False)
class LayerChannels:
    """Says which channels a layer makes and reads.

    Attributes:
        name: The weight's.
        macs: Multiply-adds for one input, with all channels.
        outputs: Of every output the channel, NONE where it has to stay.
        inputs: Likewise; None in groups, whose inputs go with their outputs.
        times: What it takes, where latency is counted.
    """

    name: str
    macs: int
    outputs: np.ndarray
    inputs: np.ndarray | None
    times: LayerTimes | None = None

    def shares(self, known: np.ndarray) -> tuple[float, float]:
        """Give the shares of its outputs and inputs that live.

        Args:
            known: Which channels live, bool, and True last, for NONE.
        """
        return float(known[self.outputs].mean()), 1.0 if self.inputs is None else float(known[self.inputs].mean())

    def cost(self, made: float, read: float) -> float:
        """Count what it costs with such shares of its outputs and inputs."""
        return self.macs * made * read if self.times is None else self.times.at(made, read)


@dataclass(frozen=True, eq=False)
class ChannelSpaces:
    """Holds the channels of a network that may die.

    Attributes:
        space: Of every channel, which space it belongs to: those that the same layers make and read.
        names: Of every space the layer that makes it, the first where there are several.
        layers: All convolutions and linear layers.
        readers: By weight name, of every input the channel, NONE where it stays; of layers that can leave inputs out.
        times: Of the kernels; None counts multiply-adds as costs.
    """

    space: np.ndarray
    names: tuple[str, ...]
    layers: tuple[LayerChannels, ...]
    readers: Mapping[str, np.ndarray]
    times: KernelTimes | None = None

    @property
    def count(self) -> int:
        """Count the channels."""
        return len(self.space)

    @property
    def sizes(self) -> np.ndarray:
        """Count the channels of every space."""
        return np.bincount(self.space, minlength=len(self.names))

    @property
    def tiles(self) -> np.ndarray:
        """Say for every space how many of its channels live or die at once."""
        tile = 1 if self.times is None else self.times.tile
        return np.array([tile_of(size, tile) for size in self.sizes.tolist()], int)

    def timed(self, times: KernelTimes) -> "ChannelSpaces":
        """Count what kernels take, in place of multiply-adds.

        Raises:
            KernelTimesError: The table is of another network.
        """
        times.check_sizes({layer.name: (len(layer.outputs), _inputs_of(layer)) for layer in self.layers})
        layers = tuple(replace(layer, times=times.layers.get(layer.name, UNTIMED)) for layer in self.layers)
        return replace(self, layers=layers, times=times)

    def macs(self, live: np.ndarray) -> float:
        """Count the multiply-adds that are left once the channels that do not live are taken out.

        Args:
            live: bool `(count,)`.
        """
        known = np.append(live, True)  # NONE is the last
        return sum(layer.macs * made * read for layer in self.layers for made, read in [layer.shares(known)])

    def cost(self, live: np.ndarray) -> float:
        """Count what is left: multiply-adds, or milliseconds where kernels were timed."""
        known = np.append(live, True)
        fixed = 0.0 if self.times is None else self.times.fixed_ms
        return fixed + sum(layer.cost(*layer.shares(known)) for layer in self.layers)

    def marginal_cost(self, live: np.ndarray) -> np.ndarray:
        """Count what every channel alone costs beside those that live: float `(count,)`.

        Of kernels that were timed it is a part of what a whole tile costs.
        """
        known, cost = np.append(live, True), np.zeros(self.count + 1)
        tile = 1 if self.times is None else self.times.tile
        for layer in self.layers:
            made, read = layer.shares(known)
            for entries, share, one in ((layer.outputs, made, True), (layer.inputs, read, False)):
                if entries is None:
                    continue
                step = tile_of(len(entries), tile) / len(entries)
                low, high = max(0.0, share - step / 2), min(1.0, share + step / 2)
                first, second = ((low, read), (high, read)) if one else ((made, low), (made, high))
                slope = (layer.cost(*second) - layer.cost(*first)) / (high - low)
                np.add.at(cost, entries, max(slope, 0.0) / len(entries))
        return cost[:-1]

    def masks(self, live: np.ndarray) -> dict[str, Tensor]:
        """Give the inputs that every reader keeps, bool `(C,)`, by weight name."""
        known = np.append(live, True)
        return {name: torch.from_numpy(known[inputs]) for name, inputs in self.readers.items()}

    def let_live(self, model: nn.Module, live: np.ndarray) -> None:
        """Set in the quantizers of a network which inputs live."""
        masks = self.masks(live)
        for weight in quantized_weights(model):
            if weight.name in masks:
                weight.quantizer.let_live(masks[weight.name])


def _inputs_of(layer: LayerChannels) -> int | None:
    return None if layer.inputs is None else len(layer.inputs)


def find_spaces(model: nn.Module, inputs: Inputs) -> ChannelSpaces:
    """Find the channels of an attached network that may die.

    Args:
        model: Its quantizers of convolutions and linear layers have `channels=True`.
        inputs: One or more, batch first, as the network takes them.

    Returns:
        The channels that only layers with such quantizers read; none where `shrink` would not take out of a copy what
        is counted here, which is tried.

    Raises:
        TraceError: The network cannot be traced.
    """
    exported, _, _ = trace_plain(model, inputs)
    macs = _macs(model, inputs)
    masked = {weight.name: weight for weight in quantized_weights(model) if weight.quantizer.channels}
    for fixed in fixed_numbers(exported):
        labels = ChannelLabels(exported)
        settle(labels, lambda node, weight: None, fixed)
        found = _spaces(labels, macs, masked)
        if not found.count or _agrees(found, model, inputs):
            return found
    logger.warning("channels of %s cannot be counted as they would be taken out, so none may go", type(model).__name__)
    return ChannelSpaces(np.zeros(0, int), (), (), {})


def _macs(model: nn.Module, inputs: Inputs) -> dict[str, int]:
    """Give the multiply-adds of every layer by all names of its weight; those of a shared one once."""
    counted = {layer.name: layer.macs for layer in summary(model, inputs=inputs).layers}
    plain = detach(copy.deepcopy(model))
    first: dict[int, str] = {}
    for name, parameter in plain.named_parameters(remove_duplicate=False):
        if name in counted:
            first.setdefault(id(parameter), name)
    names = {name: first.get(id(parameter)) for name, parameter in plain.named_parameters(remove_duplicate=False)}
    return {name: counted[known] for name, known in names.items() if known is not None}


def _spaces(labels: ChannelLabels, macs: Mapping[str, int], masked: Mapping[str, QuantizedWeight]) -> ChannelSpaces:
    made, read = {}, {}
    first = {second: one for one, second in labels.ties}  # a shared weight counts once
    for node in labels.exported.graph.nodes:
        weight = node.args[1] if is_layer(node) else None
        if not isinstance(weight, Node) or weight not in labels.names:
            continue
        out_axis, in_axis = (1, 0) if node.target in TRANSPOSED else (0, 1)
        name = labels.names[first.get(weight, weight)]
        made[name] = _entries(labels, weight, out_axis if groups_of(node) == 1 else 0)
        read[name] = _entries(labels, weight, in_axis) if groups_of(node) == 1 else None
    makers, readers, kept = defaultdict(set), defaultdict(set), {FIXED}
    for name in made:
        for label in made[name].tolist():
            makers[label].add(name)
        inputs = read[name]
        if inputs is None:
            continue
        for label in inputs.tolist():
            readers[label].add(name)
        if name not in masked:
            kept.update(inputs.tolist())
    mortal = [label for label in makers if label in readers and label not in kept]
    number = {label: place for place, label in enumerate(mortal)}
    signatures: dict[tuple[frozenset[str], frozenset[str]], int] = {}
    space = [signatures.setdefault((frozenset(makers[x]), frozenset(readers[x])), len(signatures)) for x in mortal]

    def numbered(entries: np.ndarray) -> np.ndarray:
        return np.array([number.get(label, NONE) for label in entries.tolist()])

    order = list(made)
    layers = []
    for name in order:
        inputs = read[name]
        layers.append(
            LayerChannels(name, macs.get(name, 0), numbered(made[name]), None if inputs is None else numbered(inputs))
        )
    names = tuple(min(makes, key=order.index).removesuffix(".weight") for makes, _ in signatures)
    known = {layer.name: layer.inputs for layer in layers if layer.name in masked and layer.inputs is not None}
    return ChannelSpaces(np.array(space, int), names, tuple(layers), known)


def _entries(labels: ChannelLabels, node: Node, axis: int) -> np.ndarray:
    found = labels.of(node, axis)
    assert found is not None  # a parameter's sizes are numbers
    return found.numpy()


@torch.no_grad()
def _agrees(spaces: ChannelSpaces, model: nn.Module, inputs: Inputs) -> bool:
    """Try on a copy whether what goes, with every other channel dead, is what is counted."""
    live = np.arange(spaces.count) % 2 == 0
    for number in range(len(spaces.names)):
        live[np.flatnonzero(spaces.space == number)[0]] = True
    tried = copy.deepcopy(model)
    spaces.let_live(tried, live)
    for weight in quantized_weights(tried):
        if weight.name in spaces.readers:
            original = weight.original
            original.copy_(torch.where(original < 0, -0.1, 0.1))  # no other zeros
    try:
        before, after = shrink(tried, inputs, fold_constants=False).report.macs
    except CodeqError as error:
        logger.debug("channels cannot be taken out: %s", first_line(error))
        return False
    everything = spaces.macs(np.ones(spaces.count, bool))
    return abs((before - after) - (everything - spaces.macs(live))) <= 0.5
