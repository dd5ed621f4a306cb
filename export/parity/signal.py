"""Say what 8-bit activations leave of a network: signal to noise against the float network, per output and per layer.

    signal to noise = 10 log10(sum of y^2 / sum of (y - z)^2)   dB      y: the float network's output, z: the file's

The float network has the same quantized weights; its activations are float. 20 dB are an error of a tenth, 10 dB of a
third. Nothing here decides whether a file is right: it computes what it should, in few bits.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from codeq.quantizer.classes import LOUD_SHARE, Classes
from codeq.quantizer.power import Power, decibels_text

LOUD_DB = 10.0
"""Below it an output is worth a warning: a third of it is noise."""
WORST_LAYERS = 3


@dataclass(frozen=True)
class OutputSignal:
    """Says what is left of one output.

    Attributes:
        output: Its name.
        decibels: Signal to noise; LIMIT_DB stands for no noise.
        argmax_differences, argmax_places: How often the largest value along axis 1 is another one, of how many times;
            0 of 0 where there are no classes to choose from.
    """

    output: str
    decibels: float
    argmax_differences: int
    argmax_places: int

    @property
    def share(self) -> float:
        """Return the share of places with another class."""
        return self.argmax_differences / self.argmax_places if self.argmax_places else 0.0

    @property
    def text(self) -> str:
        """Return the output's line in reports."""
        classes = f", argmax differs in {self.argmax_differences} of {self.argmax_places}" if self.argmax_places else ""
        return f"{self.output}: {decibels_text(self.decibels)}{classes}"


@dataclass(frozen=True)
class LayerSignal:
    """Says what 8 bits of its inputs leave of one layer, whatever came before it."""

    layer: str
    decibels: float


@dataclass(frozen=True)
class Signal:
    """Says what 8-bit activations leave of a network: of every output, and of every layer, the worst first."""

    outputs: tuple[OutputSignal, ...]
    layers: tuple[LayerSignal, ...]

    @property
    def worst_layers(self) -> tuple[LayerSignal, ...]:
        """Return those that people should look at."""
        return self.layers[:WORST_LAYERS]

    @property
    def warnings(self) -> tuple[str, ...]:
        """Say what should be said loudly, one line each."""
        layer = f"; the worst layer is {self.worst_layers[0].layer}" if self.worst_layers else ""
        way_out = f"{layer}: look at it, give other calibration inputs, or leave layers out (--activations-except)"
        lines = []
        for item in self.outputs:
            if item.decibels < LOUD_DB:
                found = f"8-bit activations leave it {decibels_text(item.decibels)} of signal to noise"
                lines.append(f"{item.output}: {found}, less than {LOUD_DB:.0f} dB{way_out}")
            elif item.share > LOUD_SHARE:
                found = f"another class in {item.argmax_differences} of {item.argmax_places} with 8-bit activations"
                lines.append(f"{item.output}: {found}{way_out}")
        return tuple(lines)


def measure_signal(
    names: Sequence[str],
    expected: Sequence[np.ndarray],
    found: Sequence[np.ndarray],
    layers: Mapping[str, float],
    count: int,
) -> Signal:
    """Compare what a file computes on codes with the float network.

    Args:
        names: Of the outputs.
        expected: The float network's outputs.
        found: The file's; where it has another number of them, which parity fails for, none is compared.
        layers: Signal to noise of the layers, in dB.
        count: Inputs, without those that fill up a batch.
    """
    is_whole = len(names) == len(expected) == len(found)
    outputs = tuple(
        _compare(name, ours[:count], theirs[:count])
        for name, ours, theirs in (zip(names, expected, found, strict=True) if is_whole else ())
        if np.issubdtype(ours.dtype, np.floating) and ours.shape == theirs.shape
    )
    return Signal(outputs, tuple(LayerSignal(*item) for item in worst_of(layers.items(), len(layers))))


def worst_of(layers: Iterable[tuple[str, float]], count: int = WORST_LAYERS) -> list[tuple[str, float]]:
    """Choose those of which least is left, the worst first, from names and dB."""
    return sorted(layers, key=lambda item: item[1])[:count]


def _compare(name: str, expected: np.ndarray, found: np.ndarray) -> OutputSignal:
    power, classes = Power(), Classes()
    wanted, left = torch.from_numpy(expected), torch.from_numpy(found)
    power.add(wanted, left)
    classes.add(wanted, left)
    return OutputSignal(name, power.decibels, classes.changed, classes.places)
