"""Advise on compression from weights alone, without inputs: what to quantize, to how many bits, and what to prune.

    signal to noise = 10 log10(sum of w^2 / sum of (w - f(w))^2)   dB
    kurtosis        = E[(w - mean)^4] / E[(w - mean)^2]^2          3 for a Gaussian; few large weights among small: more

f quantizes to b bits on the grid that `compress` begins with, or prunes to the same bits by magnitude: a share of
1 - b / 16 becomes zero, next to weights of 16 bits and with the mask for free. Source: Kuzmin, Nagel, van Baalen et al.
2023, "Pruning vs Quantization: Which is Better?", arXiv:2307.02973, section 3; its quantizer has one level more.
"""

import math
import statistics
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from codeq.compress.choose import Placement
from codeq.compress.columns import FEW_INPUTS, whole
from codeq.errors import AttachError, CompressError
from codeq.quantizer.attach import (
    channel_axis,
    quantizable_weights,
    quantized_weights,
    recurrent_weights,
    select_weights,
)
from codeq.quantizer.choices import GRANULARITIES
from codeq.quantizer.dead_zone import DeadZoneQuantizer
from codeq.quantizer.power import LIMIT_DB, Power
from codeq.toolkit.patterns import find_patterns
from codeq.toolkit.table import fold_line, render_table

BITS = (8, 4, 3, 2)
LOW_BITS = 4
"""The sentence is about these: fewer cost most networks accuracy, and more leave little to choose."""
FAR_DB = 3.0
"""Less than the median by so much is twice the noise."""
BASE_BITS = 16
"""Of a weight that is pruned or kept, as in the source."""
MEASURED = 2**16
"""Of larger weights as many output channels as hold so many entries are quantized, evenly spaced: 0.2 dB at most."""


@dataclass(frozen=True)
class AdvisedBits:
    """Says what a number of bits leaves of one weight.

    Attributes:
        bits: Of a code.
        quantized_decibels: Signal to noise of the weight, rounded.
        pruned_decibels: Signal to noise where a share of 1 - bits / 16 of it is pruned instead.
        free_zeros: Share of zeros that rounding gives by itself.
        equal_zeros: Share of zeros whose pruning alone is as much noise as rounding.
    """

    bits: int
    quantized_decibels: float
    pruned_decibels: float
    free_zeros: float
    equal_zeros: float


@dataclass(frozen=True)
class AdvisedWeight:
    """Describes one weight.

    Attributes:
        name, shape: The weight's.
        values_read: By each output of its layer.
        kurtosis: Of its entries.
        at: What each of `BITS` leaves of it.
    """

    name: str
    shape: tuple[int, ...]
    values_read: int
    kurtosis: float
    at: tuple[AdvisedBits, ...]

    @property
    def low(self) -> AdvisedBits:
        """Return what LOW_BITS leave."""
        return next(row for row in self.at if row.bits == LOW_BITS)


@dataclass(frozen=True)
class Advice:
    """Holds what weights alone say about compressing a network. `print(advice)` shows a table and a sentence.

    Attributes:
        granularity: Of the ranges: "channel" or "tensor".
        weights: In the network's order.
    """

    granularity: str
    weights: tuple[AdvisedWeight, ...]

    @property
    def few_inputs(self) -> tuple[str, ...]:
        """Name the weights whose layer's outputs read few values each: `compress` leaves them at 8 bits."""
        return tuple(weight.name for weight in self.weights if weight.values_read < FEW_INPUTS)

    @property
    def noisy(self) -> tuple[str, ...]:
        """Name those of the others that LOW_BITS leave far less of than of most."""
        others = [weight for weight in self.weights if weight.values_read >= FEW_INPUTS]
        if not others:
            return ()
        border = statistics.median(weight.low.quantized_decibels for weight in others) - FAR_DB
        return tuple(weight.name for weight in others if weight.low.quantized_decibels < border)

    @property
    def better_pruned(self) -> tuple[str, ...]:
        """Name the weights of which pruning to LOW_BITS leaves more than quantizing to as many."""
        return tuple(w.name for w in self.weights if w.low.pruned_decibels > w.low.quantized_decibels)

    @property
    def free_zeros(self) -> float:
        """Say which share of zeros rounding to LOW_BITS gives by itself, over the weights that it is advised for."""
        return self._mean("free_zeros")

    @property
    def equal_zeros(self) -> float:
        """Say which share of zeros alone is as much noise as rounding to LOW_BITS, over the same weights."""
        return self._mean("equal_zeros")

    @property
    def sentence(self) -> str:
        """Say what to do."""
        return self.sentence_beyond(())

    def sentence_beyond(self, at_eight_bits: Collection[str]) -> str:
        """Say what to do where these weights have 8 bits already."""
        if not self.weights:
            return "there is no weight to compress"
        parts = []
        for names, why in (
            (self.few_inputs, f"each output reads fewer than {FEW_INPUTS} values"),
            (self.noisy, f"{LOW_BITS} bits leave {FAR_DB:g} dB less than of most weights, or worse"),
        ):
            if open_names := [name for name in names if name not in at_eight_bits]:
                parts.append(f"leave {', '.join(self._patterns(open_names))} at 8 bits ({why})")
        stay = {*self.few_inputs, *self.noisy}
        if len(stay) < len(self.weights):
            others = "every other weight" if stay else "every weight"
            if wins := [name for name in self.better_pruned if name not in stay]:
                named = ", ".join(self._patterns(wins))
                parts.append(f"prune {named} rather than quantize: of the same {LOW_BITS} bits that leaves more there")
                others = "the others"
            parts.append(f"quantize {others} rather than prune: of the same {LOW_BITS} bits that leaves more")
            parts.append(
                f"zeros come on top: rounding to {LOW_BITS} bits gives {self.free_zeros:.0%} by itself, and beyond "
                f"{self.equal_zeros:.0%} pruning alone costs the weights more than the {LOW_BITS} bits do"
            )
        return "; ".join(parts)

    def _mean(self, name: str) -> float:
        """Average a field at LOW_BITS over the entries of all weights that do not stay at 8 bits."""
        stay = {*self.few_inputs, *self.noisy}
        rows = [(math.prod(w.shape), getattr(w.low, name)) for w in self.weights if w.name not in stay]
        numel = sum(count for count, _ in rows)
        return sum(count * value for count, value in rows) / numel if numel else 0.0

    def _patterns(self, names: Sequence[str]) -> list[str]:
        layers = {weight.name: _layer_name(weight.name) for weight in self.weights}
        return find_patterns([layers[name] for name in names], [layers[name] for name in layers if name not in names])

    def to_dict(self) -> dict[str, Any]:
        """Give everything to machines, with plain types."""
        names = ("sentence", "few_inputs", "noisy", "better_pruned", "free_zeros", "equal_zeros")
        return {name: getattr(self, name) for name in names} | asdict(self)

    def __str__(self) -> str:
        rows = [
            (
                weight.name,
                f"{weight.kurtosis:.1f}",
                *(f"{_short(row.quantized_decibels)}/{_short(row.pruned_decibels)}" for row in weight.at),
                f"{weight.low.free_zeros:.0%}",
            )
            for weight in self.weights
        ]
        header = ("weight", "kurtosis", *(f"{bits} bits" for bits in BITS), "zeros")
        note = (
            f"dB left of the weight: quantized, a range per {self.granularity}/pruned to the same bits; "
            f"zeros that rounding to {LOW_BITS} bits gives. What outputs lose is more than weights tell: a budget of "
            "codeq.compress measures it"
        )
        return "\n".join([render_table(header, rows), fold_line(note, 2), fold_line(f"advice: {self.sentence}", 2)])


def advise(model: nn.Module, *, granularity: str = "channel", exclude: str | Iterable[str] = ()) -> Advice:
    """Look at the weights of a trained float network before it is compressed; no inputs are needed.

    What a weight loses is not what the outputs lose by it: that is measured with inputs, by `compress` under a budget.

    Args:
        model: A network, plain or attached; it is not changed. A weight that layers share is measured once.
        granularity: Of ranges, "channel" as `compress` has them, or "tensor".
        exclude: Layers that stay float, as for `attach`.

    Raises:
        AttachError: The network has no layer to quantize, or a pattern matches none.
        CompressError: No such granularity, or a weight is not finite.

    Examples:
        >>> network = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        >>> [weight.name for weight in advise(network).weights]
        ['0.weight', '2.weight']
    """
    if granularity not in GRANULARITIES:
        raise CompressError(f"granularity must be {' or '.join(GRANULARITIES)}, found {granularity!r}")
    found = {name: (parameter, axis, groups) for name, parameter, axis, groups in _weights(model)}
    if not found:
        raise AttachError(f"{type(model).__name__} has no layer to quantize")
    recurrent = [name for name, *_ in recurrent_weights(model)]
    left = select_weights(model, found, exclude, "exclude", also=recurrent)
    rows: list[AdvisedWeight] = []
    seen: set[int] = set()
    for name, (parameter, axis, groups) in found.items():
        if name in left or id(parameter) in seen:
            continue
        seen.add(id(parameter))
        if not bool(parameter.isfinite().all()):
            raise CompressError(f"{name} has NaN or infinite entries; load the network's trained weights first")
        shape = tuple(parameter.shape)
        kurtosis, at = measure_weight(parameter, granularity=granularity, axis=axis)
        values_read = parameter.numel() // (shape[axis] * (groups if axis else 1))
        rows.append(AdvisedWeight(name, shape, values_read, kurtosis, tuple(at)))
    return Advice(granularity, tuple(rows))


def _weights(model: nn.Module) -> Iterator[tuple[str, Tensor, int, int]]:
    """Yield every weight with its name, the axis of its output channels, and its layer's groups."""
    attached = list(quantized_weights(model))
    for weight in attached:
        yield weight.name, weight.original, weight.quantizer.axis, getattr(weight.module, "groups", 1)
    if not attached:
        for name, module, tensor_name in quantizable_weights(model):
            yield name, getattr(module, tensor_name), channel_axis(module), getattr(module, "groups", 1)


def measure_weight(weight: Tensor, *, granularity: str = "channel", axis: int = 0) -> tuple[float, list[AdvisedBits]]:
    """Measure one weight: its kurtosis, and what each number of bits leaves of it.

    Args:
        weight: float32, of two or more dimensions, finite.
        granularity: "channel", a range for each output channel, or "tensor".
        axis: Of the output channels.
    """
    values = weight.detach().float()
    squares = values.flatten().square().double().sort().values
    below = squares.cumsum(0)  # what pruning so many loses
    total = float(below[-1])
    layer = whole(values, axis)
    quantizer = DeadZoneQuantizer(max(BITS), granularity=granularity, axis=axis)  # type: ignore[arg-type]
    few = _some_channels(values, axis) if quantizer.per_channel else values
    matrix = layer.matrix(few)
    found = []
    for bits in BITS:
        placement = Placement.search(quantizer, layer, matrix, bits)
        grids = placement.grids(placement.theta_for(0.0))
        rounded = torch.stack([grid.values(grid.levels(part)) for grid, part in zip(grids, matrix, strict=True)])
        power = Power()
        power.add(matrix, rounded)
        noise = total * power.noise / power.signal if power.signal else 0.0
        pruned = int(len(squares) * (1 - bits / BASE_BITS))
        found.append(
            AdvisedBits(
                bits,
                power.decibels,
                Power(total, float(below[pruned - 1]) if pruned else 0.0).decibels,
                float((rounded == 0).float().mean()),
                float(torch.searchsorted(below, noise, right=True)) / len(squares),
            )
        )
    return _kurtosis(values), found


def _some_channels(weight: Tensor, axis: int) -> Tensor:
    channels = weight.shape[axis]
    wanted = max(1, MEASURED * channels // weight.numel())
    if wanted >= channels:
        return weight
    return weight.index_select(axis, torch.linspace(0, channels - 1, wanted).round().long())


def _kurtosis(weight: Tensor) -> float:
    deviations = weight.double() - weight.double().mean()
    variance = float(deviations.square().mean())
    return float(deviations.pow(4).mean()) / variance**2 if variance else 0.0


def _layer_name(weight: str) -> str:
    return weight.removesuffix(".weight")


def _short(decibels: float) -> str:
    return "exact" if decibels == LIMIT_DB else f"{decibels:.1f}"
