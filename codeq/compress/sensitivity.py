"""Measure how much of a network's outputs each weight costs at every choice of bits and zeros, the others left float.

The noise of a layer's own result is computed for every choice, from the moments H of what it reads and the error D that
rounding makes of the weight W:

    noise = tr(D H D^T) / tr(W H W^T)                                by rounding
    noise = sum over columns j of |D_j|^2 / U_jj^2 / tr(W H W^T)     by methods that make up for it

U is the upper Cholesky factor of H^-1: 1 / U_jj^2 is what is left of an error in column j once the open columns have
made up for it (Frantar et al. 2023, "GPTQ", arXiv:2210.17323, section 3). What reaches the outputs is measured once, by
running the network with the layer at one of the choices. Noise that is small adds up and is passed on in proportion, so
that gain = noise of the outputs / noise of the layer serves for all. One layer compressed at a time is the measure of
Frantar and Alistarh 2022, arXiv:2208.11580, section 6.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from codeq.compress.alignment import damped
from codeq.compress.choose import Placement
from codeq.compress.columns import Layer, whole
from codeq.compress.layer_by_layer import walk
from codeq.compress.methods.obq import inverse_factor
from codeq.compress.problem import LayerProblem
from codeq.quantizer.attach import QuantizedWeight
from codeq.quantizer.outputs import float_outputs, noise

BITS = (2, 3, 4, 5, 6, 8)
ZEROS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Choices that are measured."""
MEASURED_INPUTS = 64
BATCH = 16
"""The moments are those of so many inputs, the gain that of one batch of them."""
PROBED_NOISE = 0.02
"""The gain is measured at the choice whose noise is nearest to this: more than float rounding, and still small."""


@dataclass(frozen=True)
class GridChoice:
    """Describes one way to compress a weight.

    Attributes:
        bits: Of the codes.
        zeros: Share of zeros to ask for; 0 takes what rounding gives.
        sparsity: Share of zeros that it has, by plain rounding.
        entropy_bytes: Shannon bound of its codes, by plain rounding.
        noise: Of the layer's result over its signal, as predicted for the method.
    """

    bits: int
    zeros: float
    sparsity: float
    entropy_bytes: float
    noise: float


@dataclass(frozen=True)
class Sensitivity:
    """Holds what was measured of one weight.

    Attributes:
        name: The weight's.
        numel: Its entries.
        choices: By bits, then zeros.
        gain: Noise of the network's outputs over noise of the layer's result.
    """

    name: str
    numel: int
    choices: tuple[GridChoice, ...]
    gain: float

    def loss(self, choice: GridChoice) -> float:
        """Predict the noise of the outputs over their signal, with this weight alone compressed."""
        return self.gain * choice.noise


@dataclass(frozen=True, eq=False)
class Measured:
    """Holds a weight at one choice: with its values by plain rounding, and the noise that these leave."""

    choice: GridChoice
    values: Tensor
    rounding_noise: float


def measure_choices(
    placements: Sequence[Placement], problems: Sequence[LayerProblem], *, compensated: bool = True
) -> list[Measured]:
    """Measure a weight at every choice.

    Args:
        placements: One for each bit width.
        problems: One per group; their moments are empty where no layer reads the weight as it is.
        compensated: Whether the method makes up for what it rounds.
    """
    matrix = placements[0].matrix
    moments = [problem.moments.float() for problem in problems]
    left = [_left_of_errors(problem) if compensated else None for problem in problems]
    found = []
    signal = _power(matrix, moments)
    for placement in placements:
        seen = -1.0
        for zeros in ZEROS:
            theta = placement.theta_for(zeros)
            grids = placement.grids(theta)
            levels = torch.stack([grid.levels(part) for grid, part in zip(grids, matrix, strict=True)])
            sparsity = float((levels == 0).float().mean())
            if sparsity <= seen:  # the same dead zone again: plain rounding gives more zeros than that
                continue
            seen = sparsity
            values = torch.stack([grid.values(part) for grid, part in zip(grids, levels, strict=True)])
            error = values - matrix
            plain = _power(error, moments)
            left_noise = sum(
                float((part.square() @ kept).sum()) if kept is not None else _power(part[None], [moment])
                for part, kept, moment in zip(error, left, moments, strict=True)
            )
            asked = 0.0 if zeros == 0 else sparsity
            shares = (min(left_noise, plain) / signal, plain / signal) if signal else (0.0, 0.0)
            choice = GridChoice(placement.bits, asked, sparsity, _entropy_bytes(levels), shares[0])
            found.append(Measured(choice, values, shares[1]))
    return found


def _left_of_errors(problem: LayerProblem) -> Tensor | None:
    """Give what is left of a squared error in each column once the others have made up for it, `(columns,)`."""
    moments = damped(problem) if problem.moments.numel() else None
    if moments is None:
        return None
    order = moments.diagonal().argsort(descending=True, stable=True)
    left = torch.empty(len(moments))
    left[order] = (1 / inverse_factor(moments[order][:, order]).diagonal().square()).float()
    return left


def measure(
    exported: ExportedProgram,
    original: nn.Module,
    tensors: tuple[Tensor, ...],
    names: tuple[str, ...],
    weights: Mapping[str, QuantizedWeight],
    aliases: Mapping[str, str],
    bits_of: Callable[[str, int | None], tuple[int, ...]],
    *,
    compensated: bool = True,
    seed: int = 0,
    on_progress: Callable[[float, str], None] = lambda share, detail: None,
) -> dict[str, Sensitivity]:
    """Measure every weight.

    Args:
        exported: The float network, traced.
        original: The float network; its weights are changed for as long as this runs.
        tensors, names: Calibration inputs, and by which names the network takes them.
        weights: By name, attached; they are not changed.
        aliases: Names of tensors to names of weights.
        bits_of: Says which bits a weight may have, from its name and the values that each output of its layer reads.
        compensated: As for `measure_choices`.
        seed: Of the places of feature maps that count.
        on_progress: Called with the share done, 0 to 1, and the weight that is next.
    """
    few = tuple(tensor[:MEASURED_INPUTS] for tensor in tensors)
    batches = [tuple(tensor[start : start + BATCH] for tensor in few) for start in range(0, len(few[0]), BATCH)]
    parameters = dict(original.named_parameters())
    wanted = float_outputs(original, batches[0], names)
    found: dict[str, Sensitivity] = {}

    def look(name: str, layer: Layer | None, problems: Callable[[], list[LayerProblem]], largest: object) -> Tensor:
        parameter, quantizer = parameters[name], weights[name].quantizer
        seen = layer or whole(parameter, quantizer.axis)
        matrix = seen.matrix(parameter.detach())
        gathered = problems() if layer is not None else [LayerProblem(part, torch.empty(0)) for part in matrix]
        widths = bits_of(name, matrix.shape[2] if layer is not None else None)
        placements = [Placement.search(quantizer, seen, matrix, bits) for bits in widths]
        at = measure_choices(placements, gathered, compensated=compensated)
        probed = min(at, key=lambda one: abs(one.rounding_noise - PROBED_NOISE))
        gain = 0.0
        if probed.rounding_noise:
            changed = seen.restore(probed.values, tuple(parameter.shape))
            gain = noise_with(parameter, changed, wanted, original, batches[0], names) / probed.rounding_noise
        found[name] = Sensitivity(name, matrix.numel(), tuple(one.choice for one in at), gain)
        return parameter.detach()

    readers = {alias: name for alias, name in aliases.items() if name in weights}
    walk(exported, batches, readers, look, correct=False, seed=seed, on_progress=on_progress)
    for name in weights:
        if name not in found:  # no output reads it
            look(name, None, list, None)
    return found


def noise_with(
    parameter: nn.Parameter,
    value: Tensor,
    wanted: Mapping[str, Tensor],
    network: nn.Module,
    tensors: tuple[Tensor, ...],
    names: tuple[str, ...],
) -> float:
    """Measure the noise of a network's outputs over their signal while one parameter of it has another value.

    Args:
        parameter, value: Of the network; the parameter has its own value again afterwards.
        wanted: The outputs with that.
        network, tensors, names: As for `float_outputs`.
    """
    kept = parameter.detach().clone()
    parameter.data.copy_(value)
    try:
        return noise(wanted, float_outputs(network, tensors, names))
    finally:
        parameter.data.copy_(kept)


def _power(matrix: Tensor, moments: Sequence[Tensor]) -> float:
    """tr(M H M^T) over all groups; the sum of squares without moments."""
    total = 0.0
    for part, moment in zip(matrix, moments, strict=True):
        total += float(((part @ moment) * part).sum() if moment.numel() else part.square().sum())
    return total


def _entropy_bytes(levels: Tensor) -> float:
    counts = torch.bincount((levels - levels.min()).flatten().long()).double()
    shares = counts[counts > 0] / levels.numel()
    return float(-(shares * shares.log2()).sum()) * levels.numel() / 8
