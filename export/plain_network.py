"""Choose codes for a network that has none, where integers are asked for: 8 bits, a range per channel, rounded.

And say of a network that is attached what its quantizers leave of it, and warn of one that nobody trained.
"""

import copy
from dataclasses import replace
from typing import NamedTuple

from torch import Tensor, nn

from codeq.compress.network import compress
from codeq.data.collect import collect_calibration
from codeq.errors import TraceError, first_line
from codeq.graph.inputs import Inputs, split_inputs
from codeq.quantizer.attach import quantized_layers, quantized_weights, weight_names
from codeq.quantizer.power import GOOD_DB, decibels_text
from codeq.quantizer.signal import NetworkSignal, measure_network
from export.errors import ExportError
from export.options import Quantization


class Compressed(NamedTuple):
    """Holds what takes the place of a plain network.

    Attributes:
        network: An attached copy, its codes chosen.
        quantization: With the calibration inputs as they were read: some can be read only once.
        note: What was done, for the report.
        signal: What that leaves next to the float network.
    """

    network: nn.Module
    quantization: Quantization
    note: str
    signal: NetworkSignal


def compress_plain(model: nn.Module, example_inputs: Inputs, quantization: Quantization) -> Compressed | None:
    """Compress a copy of a network at 8 bits; None where it is attached, has no layer to quantize, or stays float.

    Args:
        model: Not changed.
        example_inputs: Taken where there is no calibration.
        quantization: What was asked for.

    Raises:
        CalibrationError, CompressError: As for `compress`.
        ExportError: It cannot be traced or walked through.
    """
    if quantization.activations != "int8" or any(True for _ in quantized_weights(model)):
        return None
    if not any(weight_names(module) for module in model.modules()):
        return None
    given = quantization.calibration
    tensors, names = split_inputs(model, example_inputs)
    inputs = example_inputs if given is None else collect_calibration(given, arity=len(tensors), names=names)
    network = copy.deepcopy(model)
    try:
        report = compress(network, inputs, bits=8)
    except (TraceError, RuntimeError) as error:  # a batch size of its own, say, which a walk does not keep
        raise ExportError(
            f"{type(model).__name__} has no quantizers, and cannot be compressed on the way ({first_line(error)}); "
            "call codeq.attach and train it, or export it with float activations"
        ) from error
    left = ", ".join(decibels_text(decibels) for decibels in report.output_decibels)
    note = (
        f"the network had no quantizers: its weights were compressed at 8 bits, which leaves {left} of its outputs; "
        "codeq.compress does that with a choice of bits and zeros"
    )
    return Compressed(network, replace(quantization, calibration=inputs), note, report.signal)


def weight_signal(
    model: nn.Module, held: tuple[Tensor, ...], names: tuple[str, ...], fixed_batch: int | None
) -> NetworkSignal | None:
    """Measure what quantized weights leave of a network next to the float weights behind them.

    Args:
        model: Attached, or plain; left as it is.
        held, names: Held inputs, and by which names the network takes them.
        fixed_batch: The one batch size that it takes; None where it takes any.

    Returns:
        None where there is nothing to compare: no quantizer, or one that is off; too few inputs for a batch; or frozen
        grids, behind which there is no float network any more. What was trained answers by its codes alone, its float
        weights may give anything, and compression leaves the codes themselves.
    """
    layers = quantized_layers(model)
    if not layers or any(bool(quantizer.frozen) or not quantizer.enabled for _, quantizer in layers.values()):
        return None
    tensors = tuple(tensor[:fixed_batch] for tensor in held)
    if fixed_batch is not None and len(tensors[0]) < fixed_batch:
        return None
    return measure_network(model, layers, tensors, names, batch_size=len(tensors[0]))


def untrained_warning(signal: NetworkSignal | None) -> str:
    """Say that quantizers which nobody trained have ruined a network; empty where they have not, or there are none.

    Args:
        signal: From `weight_signal`.
    """
    worst = GOOD_DB if signal is None else min(signal.outputs, default=GOOD_DB)
    if worst >= GOOD_DB:
        return ""
    return (
        f"the weights' quantizers leave {decibels_text(worst)} of the float network's outputs: it is attached, but was "
        "neither trained nor frozen; take codeq.compress (python -m codeq.compress), or train it and call codeq.freeze"
    )
