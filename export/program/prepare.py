"""This module is the one pipeline from a network to the reference program that files are made from and held to.

    encode -> trace -> fold BatchNorms -> canonicalize and quantize activations, where asked

What a backend needs beyond that, its own passes do.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from codeq.activations.calibrate import BATCH_SIZE as CALIBRATION_BATCH_SIZE
from codeq.activations.encoding import ActivationEncoding
from codeq.activations.guard import calibrate_guarded
from codeq.activations.moves import is_move
from codeq.activations.plan import ActivationPlan
from codeq.data.collect import collect_calibration
from codeq.graph.inputs import Inputs, count_inputs, join_inputs
from codeq.graph.nodes import layer_names
from codeq.graph.state import state_tensors
from codeq.quantizer.attach import encode, quantized_weights
from codeq.quantizer.grid import WeightEncoding
from export.errors import ExportError
from export.options import Quantization
from export.program.fold_batch_norm import fold_batch_norm
from export.program.program import ReferenceProgram, build_reference_program
from export.program.quantize_activations import COMPARED_INPUTS, Choose, Replan, quantize_program
from export.program.run import take_inputs

logger = logging.getLogger(__name__)

TRACED_INPUTS = 2
"""Inputs that a program with an open batch is traced with: torch.export takes a batch of 1 for a constant."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """Describes a program ready to be lowered.

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
        """Return the held inputs as the network takes them."""
        return join_inputs(self.held, self.names)


def prepare_program(
    model: nn.Module,
    example_inputs: Inputs,
    quantization: Quantization,
    *,
    check_inputs: Inputs | None = None,
    open_batch: bool = True,
    keep_state: bool = False,
    quantize_outputs: bool = False,
) -> Prepared:
    """Trace a network and bring it into the form that files are made from.

    Args:
        model: Attached or plain. Not changed.
        example_inputs: One small batch; where the batch is not open, its size is the file's.
        quantization: Of activations.
        check_inputs: Held inputs for the check, in the same form; None takes the example.
        open_batch: Leave the batch size open.
        keep_state: As for `build_reference_program`.
        quantize_outputs: As for `plan_activations`.

    Raises:
        ExportError: The network or an option cannot be exported.
        CalibrationError: No inputs, or a tensor without a usable range.
    """
    encodings = _encode(model)
    example, names = take_inputs(model, example_inputs)
    held = _like_example(model, "check_inputs", check_inputs, example, names)
    calibration = quantization.calibration
    if calibration is not None:
        calibration = collect_calibration(calibration, arity=len(example), names=names)
        if count_inputs(calibration) == 1:
            logger.warning("calibration is one input; its ranges seldom hold for others: take some dozens")
    given = _like_example(model, "calibration", calibration, example, names)
    program = build_reference_program(
        model, example, encodings, names=names, dynamic_batch=open_batch, keep_state=keep_state
    )
    if keep_state and not state_tensors(program.exported):
        raise ExportError(
            f"--state io: {type(model).__name__} has no buffer that one call leaves for the next; leave it out"
        )
    folded = fold_batch_norm(program)
    if quantization.activations == "int8":
        rows = torch.arange(COMPARED_INPUTS if open_batch else len(example[0]))
        compared = tuple(tensor[rows[: len(tensor)] if open_batch else rows % len(tensor)] for tensor in held)
        batch = CALIBRATION_BATCH_SIZE if open_batch else len(example[0])
        choose = _choose_grids(program, quantization, given, batch)
        exclude = quantization.activations_except
        quantize_program(program, compared, choose, exclude=exclude, quantize_outputs=quantize_outputs)
    return Prepared(program, encodings, held, names, folded)


def prepare_again(
    model: nn.Module,
    inputs: Inputs,
    grids: Mapping[str, ActivationEncoding] | None,
    *,
    exclude: tuple[str, ...] = (),
    too_wide: Mapping[str, str] | None = None,
    fixed_batch: int | None = None,
    keep_state: bool = False,
) -> Prepared:
    """Bring a network into the form that a file was made from, with the grids that the file has.

    Args:
        model: The network that the file should have been made from.
        inputs: To check with, as the network takes them.
        grids: By tensor name, from the file; None where its activations are float.
        exclude: Layers that stayed float, from the file.
        too_wide: Tensors that stayed float since 8 bits cannot hold them, from the file.
        fixed_batch: The one batch size of the file; None where it is open.
        keep_state: As for `build_reference_program`.

    Raises:
        ExportError: The network cannot be traced, or the file lacks a grid.
    """
    tensors, names = take_inputs(model, inputs)
    if fixed_batch is not None:
        rows = torch.arange(fixed_batch) % max(1, len(tensors[0]))
        tensors = tuple(tensor[rows] for tensor in tensors)
    encodings = _encode(model)
    example = tuple(tensor[: fixed_batch or TRACED_INPUTS] for tensor in tensors)
    program = build_reference_program(
        model, example, encodings, names=names, dynamic_batch=fixed_batch is None, keep_state=keep_state
    )
    folded = fold_batch_norm(program)
    if grids is not None:
        compared = tuple(tensor[: fixed_batch or COMPARED_INPUTS] for tensor in tensors)
        quantize_program(program, compared, lambda replan: (replan(too_wide or {}, grids), grids), exclude=exclude)
    return Prepared(program, encodings, example, names, folded)


def rebuild_program(
    model: nn.Module,
    inputs: Inputs,
    grids: Mapping[str, ActivationEncoding],
    *,
    exclude: tuple[str, ...] = (),
    too_wide: Mapping[str, str] | None = None,
    fixed_batch: int | None = None,
) -> ReferenceProgram:
    """Make the quantized program of a network again; arguments and errors are those of `prepare_again`."""
    again = prepare_again(model, inputs, grids, exclude=exclude, too_wide=too_wide, fixed_batch=fixed_batch)
    return again.program


def float32_bytes(model: nn.Module) -> int:
    """Give what the same network takes in float32: its parameters and float buffers without the quantizers' own."""
    quantizers = {id(weight.quantizer) for weight in quantized_weights(model)}
    tensors: dict[int, Tensor] = {}
    for module in model.modules():
        if id(module) in quantizers:
            continue
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            if tensor.is_floating_point():
                tensors[id(tensor)] = tensor
    return 4 * sum(tensor.numel() for tensor in tensors.values())


def _encode(model: nn.Module) -> dict[str, WeightEncoding]:
    """Encode the weights of a network that can be exported as it is."""
    disabled = [weight.name for weight in quantized_weights(model) if not weight.quantizer.enabled]
    if disabled:
        raise ExportError(f"{disabled[0]}: its quantizer is switched off; call codeq.enable(model) first")
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise ExportError(f"{name} is {tensor.dtype}, expected torch.float32; call model.float() before the export")
    try:
        return encode(model)
    except ValueError as error:
        raise ExportError(str(error)) from error


def _choose_grids(
    program: ReferenceProgram, quantization: Quantization, inputs: tuple[Tensor, ...], batch_size: int
) -> Choose:
    """Take the grids that training stored, and calibrate what it did not quantize."""

    def choose(replan: Replan) -> tuple[ActivationPlan, Mapping[str, ActivationEncoding]]:
        stored, exclude = dict(quantization.activation_encodings or {}), quantization.activations_except
        plan = replan({}, stored)
        # What only moves values had a grid of its own in releases before: its codes are those of what it reads.
        moves = {name for node, name in layer_names(program.exported.graph).items() if is_move(node)}
        stored = {name: grid for name, grid in stored.items() if name in plan.tensors.values() or name not in moves}
        unknown = [name for name in stored if name not in plan.tensors.values()]
        if unknown and not exclude:
            raise ExportError(
                f"the network has no activation {unknown[0]!r}, for which training stored a scale; "
                "choose ranges anew, e.g. with --ranges mse"
            )
        complete = all(name in stored for name in plan.tensors.values())
        if complete or (stored and not exclude):
            return plan, stored  # where one is missing, quantize_program says so
        # What training did not quantize, next to a layer that is left out, is calibrated.
        plan, calibrated = calibrate_guarded(
            program.exported,
            lambda too_wide: replan(too_wide, stored),
            inputs,
            quantization.ranges,
            batch_size=batch_size,
        )
        return plan, calibrated | stored

    return choose


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
