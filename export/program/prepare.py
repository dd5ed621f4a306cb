"""What every export starts with: a network's codes, its reference program, BatchNorms folded, activations quantized."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from codeq.activations.calibrate import BATCH_SIZE as CALIBRATION_BATCH_SIZE
from codeq.activations.calibrate import calibrate
from codeq.activations.encoding import ActivationEncoding
from codeq.activations.plan import ActivationPlan
from codeq.activations.ranges import METHODS, Method
from codeq.graph.inputs import Inputs, join_inputs
from codeq.quantizer.attach import encode, quantized_weights
from codeq.quantizer.grid import WeightEncoding
from export.errors import ExportError
from export.program.fold_batch_norm import fold_batch_norm
from export.program.program import ReferenceProgram, build_reference_program
from export.program.quantize_activations import COMPARED_INPUTS, quantize_program
from export.program.run import take_inputs

Activations = Literal["float32", "int8"]
ACTIVATIONS: tuple[Activations, ...] = ("float32", "int8")


@dataclass(frozen=True, eq=False)
class Prepared:
    """A program ready to be lowered.

    Attributes:
        program: BatchNorms folded, activations quantized where asked.
        encodings: Of the network's weights, before folding.
        held: Inputs to check with, in the order of the network's arguments.
        names: Of the arguments, where they are given by name.
        folded_batch_norms: How many.
    """

    program: ReferenceProgram
    encodings: dict[str, WeightEncoding]
    held: tuple[Tensor, ...]
    names: tuple[str, ...]
    folded_batch_norms: int

    @property
    def inputs(self) -> Inputs:
        """The held inputs as the network takes them."""
        return join_inputs(self.held, self.names)


def check_choices(activations: str, ranges: str) -> None:
    """Refuse what is no option.

    Raises:
        ExportError: Naming those that are.
    """
    if activations not in ACTIVATIONS:
        raise ExportError(f"activations {activations!r}, expected one of {', '.join(ACTIVATIONS)}")
    if ranges not in METHODS:
        raise ExportError(f"ranges {ranges!r}, expected one of {', '.join(METHODS)}")


def prepare_program(
    model: nn.Module,
    example_inputs: Inputs,
    *,
    check_inputs: Inputs | None = None,
    dynamic_batch: bool = True,
    activations: Activations = "float32",
    calibration: Inputs | None = None,
    ranges: Method = "mse",
    activations_except: Sequence[str] = (),
    activation_encodings: Mapping[str, ActivationEncoding] | None = None,
) -> Prepared:
    """Trace a network and bring it into the form that files are made from. Arguments are those of `export_onnx`.

    Raises:
        ExportError: The network or an option cannot be exported.
        CalibrationError: No inputs, or a tensor without a usable range.
    """
    disabled = [weight.name for weight in quantized_weights(model) if not weight.quantizer.enabled]
    if disabled:
        raise ExportError(f"{disabled[0]}: its quantizer is switched off; call codeq.enable(model) first")
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise ExportError(f"{name} is {tensor.dtype}, expected torch.float32; call model.float() before the export")
    try:
        encodings = encode(model)
    except ValueError as error:
        raise ExportError(str(error)) from error

    example, names = take_inputs(model, example_inputs)
    held = _like_example(model, "check_inputs", check_inputs, example, names)
    given = _like_example(model, "calibration", calibration, example, names)
    program = build_reference_program(model, example, encodings, names=names, dynamic_batch=dynamic_batch)
    folded = fold_batch_norm(program)
    if activations == "int8":

        def choose(plan: ActivationPlan) -> Mapping[str, ActivationEncoding]:
            stored = dict(activation_encodings or {})
            unknown = [name for name in stored if name not in plan.tensors.values()]
            if unknown and not activations_except:
                raise ExportError(
                    f"the network has no activation {unknown[0]!r}, for which training stored a scale; "
                    "choose ranges anew, e.g. with --ranges mse"
                )
            complete = all(name in stored for name in plan.tensors.values())
            if complete or (stored and not activations_except):
                return stored  # where one is missing, insert_quantizers says so
            batch = CALIBRATION_BATCH_SIZE if dynamic_batch else len(example[0])
            # What training did not quantize, next to a layer that is left out, is calibrated.
            return calibrate(program.exported, plan, given, ranges, batch_size=batch) | stored

        rows = torch.arange(COMPARED_INPUTS if dynamic_batch else len(example[0]))
        compared = tuple(tensor[rows[: len(tensor)] if dynamic_batch else rows % len(tensor)] for tensor in held)
        quantize_program(program, compared, choose, exclude=activations_except)
    return Prepared(program, encodings, held, names, folded)


def float32_bytes(model: nn.Module) -> int:
    """What the same network takes in float32: its parameters and float buffers without the quantizers' own."""
    quantizers = {id(weight.quantizer) for weight in quantized_weights(model)}
    tensors: dict[int, Tensor] = {}
    for module in model.modules():
        if id(module) in quantizers:
            continue
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            if tensor.is_floating_point():
                tensors[id(tensor)] = tensor
    return 4 * sum(tensor.numel() for tensor in tensors.values())


def _like_example(
    model: nn.Module, argument: str, inputs: Inputs | None, example: tuple[Tensor, ...], names: tuple[str, ...]
) -> tuple[Tensor, ...]:
    """The tensors of further inputs, which must be the arguments that the example's are; its own for None."""
    if inputs is None:
        return example
    tensors, found = take_inputs(model, inputs)
    if (found, len(tensors)) != (names, len(example)):
        given, wanted = (", ".join(n) or f"{len(t)} by position" for t, n in ((tensors, found), (example, names)))
        raise ExportError(f"{argument} gives {given}, expected {wanted}, as example_inputs gives")
    return tensors
