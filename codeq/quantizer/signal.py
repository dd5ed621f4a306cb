"""Measure what quantizers leave of a network: of each weight, of what its layer computes, and of the outputs.

The float network is the same one with its quantizers switched off. A layer's result is compared with all that comes
before it quantized too, as it will be; every call of the layer counts.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from codeq.quantizer.classes import Classes
from codeq.quantizer.dead_zone import DeadZoneQuantizer
from codeq.quantizer.outputs import add_powers, float_outputs
from codeq.quantizer.power import Power, decibels_text

BATCH_SIZE = 25
"""Inputs that are computed at a time."""
METRIC = "decibels"
"""Begins the names of its numbers among a checkpoint's metrics."""

Layers = Mapping[str, tuple[nn.Module, DeadZoneQuantizer]]
"""Quantized weights by name: the layer that has one, and what quantizes it."""


@dataclass(frozen=True)
class NetworkSignal:
    """Says what is left of a network's results, in dB of signal to noise.

    Attributes:
        inputs: How many it was measured on.
        results: Of what each weight's layer computes, by the weight's name; a layer that was not called by itself is
            missing.
        outputs: Of every output that is a float, in order.
        classes: How often all outputs together choose another class.
    """

    inputs: int
    results: Mapping[str, float]
    outputs: tuple[float, ...]
    classes: Classes = field(default_factory=Classes)

    @property
    def text(self) -> str:
        """Say in a line what outputs keep."""
        left = ", ".join(map(decibels_text, self.outputs))
        return f"outputs keep {left}{f', {self.classes}' if self.classes.places else ''}"

    def to_metrics(self) -> dict[str, float]:
        """Give it as the numbers that a checkpoint keeps: decibels/inputs, .../outputs/0, .../results/NAME."""
        outputs = {f"{METRIC}/outputs/{number}": found for number, found in enumerate(self.outputs)}
        results = {f"{METRIC}/results/{name}": found for name, found in self.results.items()}
        classes = {f"{METRIC}/classes/{name}": float(found) for name, found in asdict(self.classes).items()}
        return {f"{METRIC}/inputs": float(self.inputs), **outputs, **results, **classes}

    @classmethod
    def from_metrics(cls, metrics: Mapping[str, Any]) -> "NetworkSignal | None":
        """Read what `to_metrics` gave, from among other metrics; None where it is not there, or not numbers."""
        found = {name: value for name, value in metrics.items() if str(name).startswith(f"{METRIC}/")}
        outputs, results, classes = (
            {name.removeprefix(start): value for name, value in found.items() if name.startswith(start)}
            for start in (f"{METRIC}/outputs/", f"{METRIC}/results/", f"{METRIC}/classes/")
        )
        count = found.get(f"{METRIC}/inputs")
        if not outputs or not all(isinstance(value, float) for value in found.values()) or count is None:
            return None
        counted = Classes(*(int(classes.get(name, 0)) for name in ("changed", "places")))
        return cls(int(count), results, tuple(outputs.values()), counted)


@torch.no_grad()
def weight_decibels(weight: Tensor, quantizer: DeadZoneQuantizer) -> float | None:
    """Measure what is left of a weight in its codes; None where it has no codes yet: on "meta", or not finite.

    Args:
        weight: Float, any shape.
        quantizer: Its quantizer.
    """
    if weight.is_meta or weight.dtype not in (torch.float32, torch.float64) or not bool(weight.isfinite().all()):
        return None
    power = Power()
    power.add(weight.detach().float(), quantizer.encode(weight).dequantize())
    return power.decibels


@torch.no_grad()
def measure_network(
    model: nn.Module,
    layers: Layers,
    tensors: tuple[Tensor, ...],
    names: tuple[str, ...],
    *,
    batch_size: int = BATCH_SIZE,
) -> NetworkSignal:
    """Run a network with its quantizers and without, in eval mode; it is left as it was.

    Args:
        model: Attached.
        layers: Its quantized weights.
        tensors, names: Inputs, and by which names the network takes them.
        batch_size: Inputs of one call.
    """
    powers: dict[str, Power] = {}
    classes = Classes()
    recorder = _Recorder({module for module, _ in layers.values()})
    with recorder.hooked():
        for start in range(0, len(tensors[0]), batch_size):
            batch = tuple(tensor[start : start + batch_size] for tensor in tensors)
            with _switched_off([quantizer for _, quantizer in layers.values()]):
                wanted = float_outputs(model, batch, names)
            recorder.begin_comparing()
            found = float_outputs(model, batch, names)
            add_powers(powers, wanted, found)
            classes.add_outputs(wanted, found)
            recorder.end_comparing()
    results = {
        name: recorder.powers[module].decibels for name, (module, _) in layers.items() if module in recorder.powers
    }
    return NetworkSignal(len(tensors[0]), results, tuple(power.decibels for power in powers.values()), classes)


@contextmanager
def _switched_off(quantizers: list[DeadZoneQuantizer]) -> Iterator[None]:
    enabled = [quantizer.enabled for quantizer in quantizers]
    for quantizer in quantizers:
        quantizer.enabled = False
    try:
        yield
    finally:
        for quantizer, was in zip(quantizers, enabled, strict=True):
            quantizer.enabled = was


class _Recorder:
    """Keeps what layers compute, call by call, then compares what they compute the second time."""

    def __init__(self, modules: set[nn.Module]) -> None:
        self.modules = modules
        self.kept: dict[nn.Module, list[Tensor]] = {}
        self.is_comparing = False
        self.powers: dict[nn.Module, Power] = {}

    @contextmanager
    def hooked(self) -> Iterator[None]:
        handles = [module.register_forward_hook(self._see) for module in self.modules]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def begin_comparing(self) -> None:
        self.is_comparing = True

    def end_comparing(self) -> None:
        self.is_comparing = False
        self.kept.clear()

    def _see(self, module: nn.Module, arguments: Any, result: Any) -> None:
        value = result[0] if isinstance(result, tuple) else result
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return
        if not self.is_comparing:
            # A copy: the next operator may compute in place.
            self.kept.setdefault(module, []).append(value.clone())
            return
        calls = self.kept.get(module)
        if calls and calls[0].shape == value.shape:
            self.powers.setdefault(module, Power()).add(calls.pop(0), value)
