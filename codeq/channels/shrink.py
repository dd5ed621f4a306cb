"""`shrink` takes the channels out of a network that no output depends on; it computes what it did.

A channel goes that nothing reads: every weight that would is zero. So does one that is zero for all inputs, and where
floats are computed one of another constant, which the reader's bias takes up where no padding stands beside it. In a
sum of branches a channel goes only where it does so in all of them. The dead zone of CoDeQ (arXiv:2512.12981) makes
such zeros; this makes them fast.
"""

import copy
import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.fx import Node

from codeq.channels.constants import (
    CONVOLUTIONS,
    Channels,
    channels_of,
    find_constants,
    groups_of,
    is_layer,
    layer_weight,
)
from codeq.channels.cut import cut
from codeq.channels.kept import KeptAxes
from codeq.channels.rules import changed_paddings, fixed_numbers, settle
from codeq.channels.tracing import trace_plain
from codeq.cost import summary
from codeq.errors import CodeqError, TraceError, first_line
from codeq.graph.eval_mode import eval_mode
from codeq.graph.inputs import Inputs, call, join_inputs, named_outputs, split_inputs
from codeq.quantizer.attach import encode, freeze
from codeq.toolkit.table import fold_line, format_count, render_table

logger = logging.getLogger(__name__)
aten = torch.ops.aten
TOLERANCE = 1e-5
"""How far outputs may part, relative to the largest: float32 sums in another order."""


@dataclass(frozen=True)
class ShrunkLayer:
    """Says what became of one convolution or linear layer.

    Attributes:
        name: E.g. `layer1.0.conv1`.
        outputs, inputs: Channels before and after.
        macs: Multiply-adds for one input, before and after.
        dead: Output channels whose weights are all zeros, before.
        staying: Those of them that could not go.
        why: Why; empty where none stay.
    """

    name: str
    outputs: tuple[int, int]
    inputs: tuple[int, int]
    macs: tuple[int, int]
    dead: int = 0
    staying: int = 0
    why: str = ""


@dataclass(frozen=True)
class ShrinkReport:
    """Says what went. `print(report)` shows a table.

    Attributes:
        layers: Those that lost channels, and those that keep dead ones.
        macs, parameters: Of the whole network, before and after.
        note: Why nothing could be tried; empty where it could.
    """

    layers: tuple[ShrunkLayer, ...] = ()
    macs: tuple[int, int] = (0, 0)
    parameters: tuple[int, int] = (0, 0)
    note: str = ""

    @property
    def removed(self) -> int:
        """Count the output channels that went."""
        return sum(before - after for before, after in (layer.outputs for layer in self.layers))

    @property
    def changed(self) -> bool:
        """Say whether anything went."""
        return any(layer.outputs[0] > layer.outputs[1] or layer.inputs[0] > layer.inputs[1] for layer in self.layers)

    @property
    def left(self) -> float:
        """Give the multiply-adds that are left, of those before."""
        before, after = self.macs
        return after / before if before else 1.0

    def to_dict(self) -> dict[str, Any]:
        """Give everything with plain types."""
        return asdict(self) | {"removed": self.removed}

    @property
    def table(self) -> str:
        """Show the layers that lost channels, or keep dead ones."""
        rows = [
            (
                layer.name,
                _arrow(*layer.outputs),
                _arrow(*layer.inputs),
                _arrow(*(f"{count / 1e6:.2f} M" for count in layer.macs)),
                layer.why,
            )
            for layer in self.layers
        ]
        return render_table(("layer", "outputs", "inputs", "multiply-adds", "dead ones that stay"), rows)

    @property
    def line(self) -> str:
        """Say it all in one line; empty where there was nothing to say."""
        if self.note:
            return self.note
        kept = sum(layer.staying for layer in self.layers)
        stay = f"{format_count(kept, 'dead one')} {'stays' if kept == 1 else 'stay'}" if kept else ""
        if not self.changed:
            return f"none removed, {stay}" if stay else ""
        macs, parameters = (after / before if before else 1.0 for before, after in (self.macs, self.parameters))
        left = f"{macs:.1%} of the multiply-adds and {parameters:.1%} of the parameters are left"
        return f"{self.removed:,} removed: {left}{f'; {stay}' if stay else ''}"

    def __str__(self) -> str:
        lines = [self.table] if self.layers else []
        return "\n".join([*lines, fold_line(f"channels  {self.line or 'none can go'}", 10)])


NOTHING_SHRUNK = ShrinkReport()
"""The report on a network in which there was nothing to try."""


class Shrunk(NamedTuple):
    """Holds a network without its dead channels, and what went."""

    model: nn.Module
    report: ShrinkReport


def shrink(model: nn.Module, inputs: Inputs, *, fold_constants: bool = True) -> Shrunk:
    """Take out all channels that no output depends on.

    Args:
        model: Attached or plain. Not changed; it is looked at in eval mode.
        inputs: One or more, batch first, as the network takes them: it is traced with them, and the smaller network is
            held against it.
        fold_constants: Let channels go too that are a constant other than zero, where the reader's bias takes it up.
            That is exact to float32's rounding, but not to the last code of an integer file, so exports of those
            do without.

    Returns:
        The smaller network, in the mode and of the class of `model`, frozen where it is attached, whose outputs are the
        same; `model` itself where nothing can go.

    Raises:
        TraceError: These are no inputs of the network.
        CodeqError: The two networks part, which is a bug.
    """
    given = join_inputs(*split_inputs(model, inputs))
    if not _may_shrink(model):
        return Shrunk(model, NOTHING_SHRUNK)
    try:
        exported, tensors, names = trace_plain(model, given)
    except TraceError as error:
        note = f"none removed, since the network cannot be traced ({first_line(error)})"
        return Shrunk(model, ShrinkReport(note=note))
    expected = _outputs(model, tensors, names)
    levels = fixed_numbers(exported)
    for fixed in levels:
        kept = KeptAxes(exported)
        found = find_constants(kept)
        absorber = _Absorber(kept, fold_constants)
        settle(kept, partial(_read, kept, found, absorber), fixed)
        stays = {kept.names[node]: kept.axes[node] for node in kept.tensors if node in kept.axes}
        if all(mask is None or bool(mask.all()) for axes in stays.values() for mask in axes):
            break
        small = copy.deepcopy(model)
        freeze(small)
        cut(small, stays, absorber.biases(found), changed_paddings(kept))
        try:
            _compare(expected, _outputs(small, tensors, names))
        except (CodeqError, RuntimeError, ValueError, AssertionError) as error:  # a size that forward has as a number
            logger.debug("a smaller network does not do: %s", first_line(error))
            if isinstance(error, CodeqError) and fixed is levels[-1]:
                raise
            continue
        return Shrunk(small, _report(kept, found, model, small, given))
    return Shrunk(model, _report(kept, found, model, model, given))


def _may_shrink(model: nn.Module) -> bool:
    """Tell whether any layer has an output or input channel without a weight: what all else follows from."""
    values = {name: encoding.codes for name, encoding in encode(model).items()}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
            weight_name = f"{name}.weight".lstrip(".")
            weight = values[weight_name] if weight_name in values else module.weight.detach()
            used = weight != 0
            if not bool(used.flatten(1).any(1).all()) or not bool(used.transpose(0, 1).flatten(1).any(1).all()):
                return True
    return False


def _read(kept: KeptAxes, found: Mapping[Node, Channels], absorber: "_Absorber", node: Node, weight: Tensor) -> Tensor:
    """Tell which channels a layer reads: a weight of a channel that stays is not zero, and the layer needs it."""
    axis = channels_of(kept, node)
    stays = kept.of(node, axis)
    assert stays is not None
    read = (weight[stays] != 0).transpose(0, 1).flatten(1).any(1)
    channels = found.get(node.args[0])  # type: ignore[arg-type]
    if channels is not None and channels.axis == axis:
        read = read & ~absorber(node, channels.values)
    return read


class _Absorber:
    """Says which constants a layer can do without, and what its bias gets for them."""

    def __init__(self, kept: KeptAxes, fold_constants: bool) -> None:
        self.kept = kept
        self.fold_constants = fold_constants

    def __call__(self, node: Node, values: Tensor) -> Tensor:
        return ~values.isnan() if self._folds(node) else values == 0

    def _folds(self, node: Node) -> bool:
        weight = node.args[1]
        if not self.fold_constants or not isinstance(weight, Node) or len(weight.users) > 1 or groups_of(node) > 1:
            return False
        if node.target is aten.linear.default:
            return True
        padding = node.args[4] if len(node.args) > 4 else 0
        sizes = padding if isinstance(padding, list | tuple) else [padding]
        return node.target in CONVOLUTIONS and not any(map(bool, sizes))

    def biases(self, found: Mapping[Node, Channels]) -> dict[str, Tensor]:
        added = {}
        for node in self.kept.exported.graph.nodes:
            if not is_layer(node) or not self._folds(node):
                continue
            channels, parameters = found.get(node.args[0]), layer_weight(self.kept, node)
            axis = channels_of(self.kept, node)
            stays = self.kept.of(node.args[0], axis)
            if channels is None or channels.axis != axis or parameters is None or stays is None:
                continue
            gone = ~stays & ~channels.values.isnan() & (channels.values != 0)
            if not bool(gone.any()):
                continue
            weight = parameters[0].detach().double().flatten(2).sum(2) if parameters[0].ndim > 2 else parameters[0]
            name = self.kept.names[node.args[1]].rpartition(".")[0]
            added[name] = weight.detach().double()[:, gone] @ channels.values[gone].double()
        return added


def _outputs(model: nn.Module, tensors: tuple[Tensor, ...], names: tuple[str, ...]) -> list[Tensor]:
    with eval_mode(model), torch.no_grad():
        return [*named_outputs(model, call(model, tensors, names)).values()]


def _compare(expected: list[Tensor], found: list[Tensor]) -> None:
    for ours, theirs in zip(expected, found, strict=True):
        if ours.shape != theirs.shape:
            raise CodeqError(f"the smaller network's output is {tuple(theirs.shape)}, expected {tuple(ours.shape)}")
        if not ours.is_floating_point():
            continue
        largest = float(ours.abs().max()) if ours.numel() else 0.0
        error = float((ours - theirs).abs().max()) if ours.numel() else 0.0
        if not error <= TOLERANCE * max(1.0, largest):
            raise CodeqError(
                f"the smaller network's output is off by {error:.3g}; please report it, and keep the channels"
            )


def _report(
    kept: KeptAxes, found: Mapping[Node, Channels], model: nn.Module, small: nn.Module, inputs: Inputs
) -> ShrinkReport:
    before, after = (summary(network, inputs=inputs) for network in (model, small))
    macs = {old.name: (old.macs, new.macs) for old, new in zip(before.layers, after.layers, strict=True)}
    layers = []
    for node in kept.exported.graph.nodes:
        parameters = layer_weight(kept, node) if is_layer(node) else None
        if parameters is None:
            continue
        weight = parameters[0]
        name = kept.names[node.args[1]]
        axis = channels_of(kept, node)
        outputs, reads = kept.of(node, axis), kept.of(node.args[0], axis)
        if outputs is None or reads is None:
            continue
        shrunk = small is not model
        dead = ~(weight != 0).flatten(1).any(1)
        staying = dead & outputs if shrunk else dead
        sizes = (len(outputs), int(outputs.sum()) if shrunk else len(outputs))
        read = (len(reads), int(reads.sum()) if shrunk else len(reads))
        why = _why(found, node, staying) if bool(staying.any()) else ""
        if sizes[0] > sizes[1] or read[0] > read[1] or why:
            counts = macs.get(name, (0, 0))
            stay = int(staying.sum())
            layers.append(ShrunkLayer(name.removesuffix(".weight"), sizes, read, counts, int(dead.sum()), stay, why))
    numbers = [sum(math.prod(p.shape) for p in network.parameters()) for network in (model, small)]
    return ShrinkReport(tuple(layers), (before.macs, after.macs), (numbers[0], numbers[1]))


def _why(found: Mapping[Node, Channels], node: Node, staying: Tensor) -> str:
    """Say why dead channels stay, as far as the constants tell."""
    count = f"{int(staying.sum())}: "
    reader = node
    while len(reader.users) == 1 and next(iter(reader.users)) in found:
        reader = next(iter(reader.users))
    values = found[reader].values if reader in found else torch.zeros(0)
    if len(values) == len(staying) and bool((values[staying] != 0).all()):
        return f"{count}a constant that is not 0"
    return f"{count}a sum, attention or output has them"


def _arrow(before: object, after: object) -> str:
    return f"{before} -> {after}" if before != after else f"{before}"
