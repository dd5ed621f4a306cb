"""Choose codes for a network that has none, where integers are asked for: 8 bits, a range per channel, rounded.

And say of a network that was attached, and then neither trained nor compressed, what its quantizers leave of it.
"""

import copy
from dataclasses import replace
from typing import NamedTuple

from torch import Tensor, nn

from codeq.activations.noise import Power
from codeq.compress.network import compress
from codeq.compress.outputs import add_powers, float_outputs
from codeq.compress.report import GOOD_DB
from codeq.data.collect import collect_calibration
from codeq.errors import TraceError, first_line
from codeq.graph.inputs import Inputs, split_inputs
from codeq.quantizer.attach import enable, quantized_weights, weight_names
from export.errors import ExportError
from export.options import Quantization
from export.parity.signal import decibels_text


class Compressed(NamedTuple):
    """Holds what takes the place of a plain network.

    Attributes:
        network: An attached copy, its codes chosen.
        quantization: With the calibration inputs as they were read: some can be read only once.
        note: What was done, for the report.
    """

    network: nn.Module
    quantization: Quantization
    note: str


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
    return Compressed(network, replace(quantization, calibration=inputs), note)


def untrained_warning(
    model: nn.Module, held: tuple[Tensor, ...], names: tuple[str, ...], fixed_batch: int | None
) -> str:
    """Say that quantizers which nobody trained have ruined a network; empty where they have not, or are frozen.

    Args:
        model: Attached; left as it is.
        held, names: Held inputs, and by which names the network takes them.
        fixed_batch: The one batch size that it takes; None where it takes any.
    """
    quantizers = [weight.quantizer for weight in quantized_weights(model)]
    if not quantizers or any(bool(quantizer.frozen) or not quantizer.enabled for quantizer in quantizers):
        return ""
    tensors = tuple(tensor[:fixed_batch] for tensor in held)
    if fixed_batch is not None and len(tensors[0]) < fixed_batch:
        return ""
    found = float_outputs(model, tensors, names)
    enable(model, False)
    try:
        wanted = float_outputs(model, tensors, names)
    finally:
        enable(model, True)
    powers: dict[str, Power] = {}
    add_powers(powers, wanted, found)
    worst = min((power.decibels for power in powers.values()), default=GOOD_DB)
    if worst >= GOOD_DB:
        return ""
    return (
        f"the weights' quantizers leave {decibels_text(worst)} of the float network's outputs: it is attached, but was "
        "neither trained nor frozen; take codeq.compress (python -m codeq.compress), or train it and call codeq.freeze"
    )
