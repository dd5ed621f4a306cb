"""Choose the channels that die, without training: those that what lives makes up for best, for what they cost.

A layer with weights W (outputs by columns) that reads x, of moments H = E[x x^T], loses with the columns b of a
channel, once the columns that are left have made up for it,

    tr(W_b [(H^-1)_bb]^-1 W_b^T)               W -= W_b [(H^-1)_bb]^-1 (H^-1)_b:

of its squared result: Frantar and Alistarh 2022, "Optimal Brain Compression", arXiv:2208.11580, section 4 (block
pruning), after Hassibi and Stork 1992. Of that a share reaches the outputs, which is measured once for every layer, as
in sensitivity.py. Channels die in rounds, each at one price for a multiply-add, or a millisecond, in all layers
(price.py), and after each what is left of every layer makes up for those that have died. A channel that several layers
read costs what all lose.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from codeq.channels.price import affordable, landed, least_cost
from codeq.channels.spaces import NONE, ChannelSpaces
from codeq.compress.alignment import answering, damped
from codeq.compress.columns import Layer
from codeq.compress.layer_by_layer import walk
from codeq.compress.problem import LayerProblem
from codeq.compress.sensitivity import PROBED_NOISE, noise_with
from codeq.errors import CompressError
from codeq.quantizer.outputs import float_outputs
from codeq.quantizer.power import Power

ROUNDS = 16
PROBED_INPUTS = 32


@dataclass(eq=False)
class _Reader:
    """Holds a layer that may lose channels.

    Attributes:
        weight: float64 `(outputs, columns)`, as it makes up for what has died.
        inverse: Of the damped moments of the columns that live, float64; of the others zeros.
        channels: Of every column the channel; NONE where it has none that could die, or has lost it.
        scale: Turns squared result into noise of the outputs.
    """

    weight: Tensor
    inverse: Tensor
    channels: np.ndarray
    scale: float

    def losses(self, count: int) -> np.ndarray:
        """Give what the outputs lose with every channel, float `(count,)`."""
        found = np.zeros(count)
        order = np.argsort(self.channels, kind="stable")
        known, starts = np.unique(self.channels[order], return_index=True)
        for channel, columns in zip(known, np.split(order, starts[1:]), strict=True):
            if channel == NONE:
                continue
            block, own = self._block(columns)
            found[channel] = self.scale * float((torch.linalg.solve(block, own.T) * own.T).sum())
        return found

    def lose(self, live: np.ndarray) -> None:
        """Let channels die, bool `(count,)`; the columns that are left make up for them."""
        dying = ~np.append(live, True)[self.channels]  # NONE is the last
        columns = np.flatnonzero(dying)
        if not len(columns):
            return
        block, own = self._block(columns)
        rows = self.inverse[columns]
        self.weight -= own @ torch.linalg.solve(block, rows)
        self.inverse -= rows.T @ torch.linalg.solve(block, rows)
        self.weight[:, columns] = 0.0
        self.inverse[columns] = 0.0
        self.inverse[:, columns] = 0.0
        self.channels = np.where(dying, NONE, self.channels)

    def _block(self, columns: np.ndarray) -> tuple[Tensor, Tensor]:
        return self.inverse[columns][:, columns], self.weight[:, columns]


def choose_channels(
    spaces: ChannelSpaces,
    share: float,
    exported: ExportedProgram,
    batches: Sequence[tuple[Tensor, ...]],
    names: tuple[str, ...],
    original: nn.Module,
    aliases: Mapping[str, str],
    *,
    seed: int = 0,
    on_progress: Callable[[float, str], None] = lambda share, detail: None,
) -> np.ndarray:
    """Choose which channels live.

    Args:
        spaces: The channels.
        share: Of the cost that is to be left, in (0, 1): of multiply-adds, or of latency where `spaces` have times.
        exported: The float network, traced.
        batches: Calibration inputs, each in the order of the network's arguments.
        names: By which names the network takes them.
        original: The float network; its weights are changed for as long as this runs.
        aliases: Names of tensors to names of weights.
        seed: Of the places that count, and of what is measured with.
        on_progress: Called with the share done, 0 to 1, and the weight that is next.

    Returns:
        bool `(spaces.count,)`.

    Raises:
        CompressError: So little cannot be left.
    """
    what = "multiply-adds" if spaces.times is None else "latency"
    if not spaces.count:
        raise CompressError(f"{share:.1%} of the {what} cannot be left: this network has no channel that could go")
    live = np.ones(spaces.count, bool)
    everything = spaces.cost(live)
    # Rounded up, so that whoever asks for what a message says gets it.
    least = min(math.ceil(1000 * least_cost(spaces) / everything) / 1000, 1.0)
    asked, share, lost = share, max(share, least), 0.0
    readers = _readers(spaces, exported, batches, names, original, aliases, seed, on_progress)
    for number in range(1, ROUNDS + 1):
        losses = np.sum([reader.losses(spaces.count) for reader in readers], axis=0)
        losses[~live] = 0.0  # what has died stays dead
        wanted = everything * (1 - (1 - share) * number / ROUNDS)
        costs = spaces.marginal_cost(live)
        chosen = affordable(spaces, losses, wanted, costs=costs)
        if number == ROUNDS:
            losses = np.where(live, losses, np.inf)  # what has died stays dead
            chosen = landed(spaces, losses, live & chosen, wanted, costs)
        lost += float(losses[live & ~chosen].sum())
        live = live & chosen
        for reader in readers:
            reader.lose(live)
    if asked < share:
        raise CompressError(
            f"{asked:.1%} of the {what} cannot be left: {least:.1%} is the least that this network's channels allow, "
            f"with about {Power(1.0, lost).decibels:.1f} dB of the outputs' signal left as predicted; ask for at least "
            "that"
        )
    return live


def _readers(
    spaces: ChannelSpaces,
    exported: ExportedProgram,
    batches: Sequence[tuple[Tensor, ...]],
    names: tuple[str, ...],
    original: nn.Module,
    aliases: Mapping[str, str],
    seed: int,
    on_progress: Callable[[float, str], None],
) -> list[_Reader]:
    """Look at every layer that reads channels: moments, and what of its noise reaches the outputs."""
    parameters = dict(original.named_parameters())
    readers_of = {aliases[name]: inputs for name, inputs in spaces.readers.items()}
    few = tuple(tensor[:PROBED_INPUTS] for tensor in batches[0])
    wanted = float_outputs(original, few, names)
    generator = torch.Generator().manual_seed(seed)
    found = []

    def look(name: str, layer: Layer | None, problems: Callable[[], list[LayerProblem]], largest: object) -> Tensor:
        parameter = parameters[name]
        if layer is None or layer.groups > 1 or not (readers_of[name] >= 0).any():
            return parameter.detach()
        (problem,) = problems()
        moments = damped(problem)
        if moments is None:  # it reads nothing but zeros
            return parameter.detach()
        weight, signal = problem.weight.double(), _power(problem.weight.double(), problem.moments.double())
        error = torch.randn(weight.shape, generator=generator, dtype=torch.float64) * weight.square().mean().sqrt()
        error *= (PROBED_NOISE * signal / max(_power(error, problem.moments.double()), 1e-300)) ** 0.5
        changed = layer.restore((weight + error).float()[None], tuple(parameter.shape))
        gain = noise_with(parameter, changed, wanted, original, few, names) / PROBED_NOISE
        inputs = readers_of[name]
        channels = np.repeat(inputs, weight.shape[1] // len(inputs))
        found.append(_Reader(weight.clone(), torch.linalg.inv(moments), channels, gain / signal if signal else 0.0))
        return parameter.detach()

    walked = {alias: name for alias, name in aliases.items() if name in readers_of}
    walk(exported, batches, walked, look, correct=False, seed=seed, on_progress=on_progress)
    return found


def on_live_columns(problem: LayerProblem, live: Tensor) -> LayerProblem:
    """Restrict a layer to the columns that live, with the weights that make up best for the others.

    Args:
        problem: Of all columns.
        live: Which live, bool `(columns,)`.

    Returns:
        The smaller problem; its weights answer what is left of the compressed network's inputs as the float ones answer
        all of theirs, so that it has no cross moments.
    """
    moments = problem.moments[live][:, live]
    if not float(moments.diagonal().mean()) > 0:  # the layer reads nothing but zeros
        return LayerProblem(problem.weight[:, live], moments)
    cross = (problem.moments if problem.cross is None else problem.cross)[live]
    weight = answering(moments, cross, problem.weight, live.nonzero().reshape(-1))
    return LayerProblem(weight.float(), moments)


def _power(weight: Tensor, moments: Tensor) -> float:
    return float(((weight @ moments) * weight).sum())
