"""Equalise channels: scale what makes a channel against what reads it, so that one range serves all channels better.

    s = sqrt(r1 r2) / r2        r1 / s = r2 s = sqrt(r1 r2)

By weights, r1 and r2 are the largest magnitudes that make and that read a channel (Nagel et al. 2019, arXiv:1906.04721,
section 4.1), found again until no factor changes: layers in chains belong to two pairs. By activations, r1
is the largest magnitude that calibration sees of the channel (Xiao et al. 2023, arXiv:2211.10438, equation 4).

Factors are rounded to powers of two: values change in their exponents alone, and the network answers bit for bit what
it answered, short of underflow.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import Node

from codeq.compress.pairs import ChannelPair, ChannelReader, Found, Front, find_pairs
from codeq.compress.report import Equalisation
from codeq.compress.scaling import input_ranges, input_sums, output_ranges, scale_inputs, scale_outputs
from codeq.graph.autocast import autocast_off
from codeq.graph.nodes import GraphRunner

SWEEPS = 50
SETTLED = 0.01
"""In octaves: a sweep that changes no factor by more is the last."""

Values = dict[str, Tensor]


def factors(made: Tensor, read: Tensor) -> Tensor:
    """Compute by how much what makes a channel is divided and what reads it multiplied; 1 where either is zero."""
    wanted = (made / read).sqrt()
    return torch.where((made > 0) & (read > 0), wanted, torch.ones_like(wanted))


def power_of_two(values: Tensor) -> Tensor:
    """Round positive values to the nearest power of two, by their logarithms."""
    return torch.exp2(torch.log2(values.double()).round()).to(values.dtype)


def weights_of(found: Found, exported: ExportedProgram) -> Values:
    """Copy all tensors that scaling may change, as float64."""
    names = set()
    for pair in found.pairs:
        names |= {pair.name, pair.bias, *(reader.weight for reader in pair.readers)}
        names |= {reader.bias for reader in pair.readers}
    for front in found.fronts:
        names |= {front.weight, front.bias, front.norm, front.mean, front.variance}
    return {name: exported.state_dict[name].detach().double() for name in names if name is not None}


def by_weights(found: Found, values: Values) -> list[Tensor]:
    """Find every pair's factors from the weights alone."""
    values = dict(values)
    totals = [torch.ones(len(pair.free), dtype=torch.float64) for pair in found.pairs]
    for _ in range(SWEEPS):
        changed = 0.0
        for index, pair in enumerate(found.pairs):
            factor = factors(made_range(pair, values), read_range(pair, values))
            factor = torch.where(pair.free, factor, torch.ones_like(factor))
            apply(pair, values, factor)
            totals[index] = totals[index] * factor
            changed = max(changed, float(factor.log2().abs().max()))
        if changed < SETTLED:
            break
    return totals


def by_activations(found: Found, values: Values, largest: Mapping[str, Tensor], exponent: float = 0.5) -> list[Tensor]:
    """Find every pair's factors from what calibration saw, so that the largest magnitude of each tensor stays."""
    result = []
    for pair in found.pairs:
        seen = torch.zeros(len(pair.free), dtype=torch.float64)
        for reader in pair.readers:
            seen = spread_max(seen, reader, largest[reader.source].double())
        read = read_range(pair, values)
        usable = pair.free & (seen > 0) & (read > 0)
        factor = torch.where(usable, seen**exponent / read ** (1 - exponent), torch.ones_like(seen))
        if bool(usable.any()):
            # The largest channel keeps its magnitude.
            factor = torch.where(usable, factor * (seen / factor)[usable].max() / seen[usable].max(), factor)
        result.append(factor)
    return result


def made_range(pair: ChannelPair, values: Values) -> Tensor:
    """Find the largest magnitude of the weights that make each channel, a BatchNorm folded into its layer."""
    if pair.layer is not None:
        return output_ranges(values[pair.name], pair.layer)
    if pair.front is None:
        return values[pair.name].abs()
    front = pair.front
    gain = values[pair.name].abs() * (values[front.variance] + front.eps).rsqrt()
    return gain * output_ranges(values[front.weight], front.layer)


def read_range(pair: ChannelPair, values: Values) -> Tensor:
    """Find the largest magnitude of the weights that read each channel."""
    found = torch.zeros(len(pair.free), dtype=torch.float64)
    for reader in pair.readers:
        found = spread_max(found, reader, input_ranges(values[reader.weight], reader.layer))
    return found


def spread_max(found: Tensor, reader: ChannelReader, of_columns: Tensor) -> Tensor:
    """Take the largest of what a reader's columns have, for the channels that they read."""
    known = reader.columns >= 0
    return found.scatter_reduce(0, reader.columns[known], of_columns[known], "amax")


def of_columns(reader: ChannelReader, of_channels: Tensor, other: float) -> Tensor:
    """Give every column of a reader the value of the channel that it reads."""
    return torch.where(reader.columns >= 0, of_channels[reader.columns.clamp(min=0)], other)


def apply(pair: ChannelPair, values: Values, factor: Tensor) -> None:
    """Divide what makes the channels by their factors, and multiply what reads them."""
    if pair.layer is None:
        values[pair.name] = values[pair.name] / factor
    else:
        values[pair.name] = scale_outputs(values[pair.name], pair.layer, 1 / factor)
    if pair.bias is not None:
        values[pair.bias] = values[pair.bias] / factor
    for reader in pair.readers:
        values[reader.weight] = scale_inputs(values[reader.weight], reader.layer, of_columns(reader, factor, 1.0))


def level_rows(front: Front, values: Values) -> None:
    """Bring the rows of a layer in front of a BatchNorm to one range, against the BatchNorm's weight and mean."""
    reach = output_ranges(values[front.weight], front.layer)
    usable = reach > 0
    factor = power_of_two(torch.where(usable, reach / reach.max().clamp(min=1e-300), torch.ones_like(reach)))
    values[front.weight] = scale_outputs(values[front.weight], front.layer, 1 / factor)
    if front.bias is not None:
        values[front.bias] = values[front.bias] / factor
    values[front.mean] = values[front.mean] / factor
    values[front.norm] = values[front.norm] * factor


def absorb_bias(pair: ChannelPair, values: Values, fronts: Mapping[str, Front]) -> Tensor:
    """Move the part of a high bias that a relu hardly ever cuts into what reads it."""
    kept = torch.zeros(len(pair.free), dtype=torch.float64)
    takers = [(reader, reader.bias, fronts.get(reader.weight)) for reader in pair.readers]
    if pair.front is None or pair.bias is None or not pair.only_relu:
        return kept
    if any(reader.padded or (bias is None and front is None) for reader, bias, front in takers):
        return kept
    excess = (values[pair.bias] - 3 * values[pair.name].abs()).clamp(min=0)
    excess = torch.where(pair.free, excess, kept)
    values[pair.bias] = values[pair.bias] - excess
    for reader, bias, front in takers:
        gained = input_sums(values[reader.weight], reader.layer, of_columns(reader, excess, 0.0))
        if bias is not None:
            values[bias] = values[bias] + gained
        else:
            assert front is not None
            values[front.mean] = values[front.mean] - gained
    return excess


@torch.no_grad()
@autocast_off()
def largest_magnitudes(
    exported: ExportedProgram, batches: Iterable[Sequence[Tensor]], found: Found
) -> Mapping[str, Tensor]:
    """Find the largest magnitude of every channel that pairs' readers read, by the node that they read."""
    axes = {reader.source: reader.layer.channel_axis for pair in found.pairs for reader in pair.readers}
    largest: dict[str, Tensor] = {}

    def see(node: Node, value: Tensor) -> Tensor:
        if node.name in axes:
            reach = value.movedim(axes[node.name], 0).flatten(1).abs().amax(1)
            largest[node.name] = torch.maximum(largest.get(node.name, reach), reach)
        return value

    runner = GraphRunner(exported, see)
    for batch in batches:
        runner.compute(tuple(batch))
    return largest


@dataclass(frozen=True)
class Equalised:
    """Holds what equalisation makes of a network.

    Attributes:
        tensors: New values, float32, by their names in the network.
        factors: Of every pair in the network's order, by the name of the weight that makes its channels: `(C,)`.
        by: What factors were found by.
        absorbed: Channels whose high bias was absorbed.
        levelled: Layers in front of BatchNorms whose rows were brought to one range.
    """

    tensors: Mapping[str, Tensor]
    factors: Mapping[str, Tensor]
    by: str = "none"
    absorbed: int = 0
    levelled: int = 0

    def report(self, decibels: tuple[float, ...]) -> Equalisation:
        """Say what was done.

        Args:
            decibels: Signal to noise of the network's outputs with the new tensors against those with the old.
        """
        factors = torch.cat([torch.ones(1, dtype=torch.float64), *self.factors.values()])
        largest = float(torch.maximum(factors, 1 / factors).max())
        return Equalisation(
            self.by, len(self.factors), int((factors != 1).sum()), largest, self.levelled, self.absorbed, decibels
        )


@torch.no_grad()
def equalise(
    exported: ExportedProgram,
    batches: Sequence[tuple[Tensor, ...]],
    *,
    by: str = "weights",
    rows: bool = False,
    absorb: bool = False,
) -> Equalised:
    """Find new values of a traced network's tensors.

    Args:
        exported: The network, which is left alone.
        batches: Calibration inputs, each in the order of the network's arguments.
        by: "weights" or "activations"; others scale nothing between layers.
        rows: Bring the rows of layers in front of BatchNorms to one range too: worth it where a weight has one range.
        absorb: Absorb high biases, which changes what the network answers, a little.
    """
    found = find_pairs(exported, tuple(tensor[:2] for tensor in batches[0]))
    values = weights_of(found, exported)
    if by == "weights":
        scales = by_weights(found, values)
    elif by == "activations":
        scales = by_activations(found, values, largest_magnitudes(exported, batches, found))
    else:
        scales = [torch.ones(len(pair.free), dtype=torch.float64) for pair in found.pairs]
    scales = [power_of_two(factor) for factor in scales]
    for pair, factor in zip(found.pairs, scales, strict=True):
        apply(pair, values, factor)
    absorbed = 0
    if absorb:
        fronts = {front.weight: front for front in found.fronts}
        absorbed = sum(int((absorb_bias(pair, values, fronts) > 0).sum()) for pair in found.pairs)
    levelled = found.fronts if rows else ()
    for front in levelled:
        level_rows(front, values)
    tensors = {name: value.float() for name, value in values.items()}
    changed = {name: value for name, value in tensors.items() if not torch.equal(value, exported.state_dict[name])}
    factors_of = {pair.name: factor for pair, factor in zip(found.pairs, scales, strict=True)}
    return Equalised(changed, factors_of, by, absorbed, len(levelled))
