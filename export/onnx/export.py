"""`export_onnx` turns a live network into an ONNX file.

checkpoint -> encodings -> reference program -> ONNX graph -> storage of weights -> file -> parity -> published.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import nn

from codeq.activations.encoding import ActivationEncoding
from codeq.activations.methods import Method
from codeq.data.collect import CalibrationInputs
from codeq.graph.inputs import Inputs
from export.onnx.backend import ONNX
from export.onnx.details import OnnxDetails
from export.onnx.options import DEFAULT_TARGET, EXTERNAL_DATA_THRESHOLD, OnnxRequest, State
from export.onnx.storage.kinds import Storage
from export.options import ActivationsWord, Quantization
from export.publish import publish
from export.report import Report


def export_onnx(
    model: nn.Module,
    example_inputs: Inputs,
    path: str | os.PathLike[str],
    *,
    storage: Storage = "auto",
    target: str = DEFAULT_TARGET,
    debug_info: bool = False,
    opset: int | None = None,
    force: bool = False,
    accept_mismatch: bool = False,
    keep_dead_channels: bool = False,
    check_inputs: Inputs | None = None,
    state: State = "refuse",
    dynamic_batch: bool = True,
    preprocessing: Mapping[str, list[float]] | None = None,
    labels: Sequence[str] = (),
    checkpoint_sha256: str | None = None,
    external_data_threshold: int = EXTERNAL_DATA_THRESHOLD,
    activations: ActivationsWord = "float32",
    calibration: CalibrationInputs | None = None,
    ranges: Method = "mse",
    activations_except: Sequence[str] = (),
    activation_encodings: Mapping[str, ActivationEncoding] | None = None,
) -> Report[OnnxDetails]:
    """Write a network as an ONNX file whose weights are exactly those it was trained with.

    The lowering of weights is exact. With float32 activations, outputs differ from PyTorch's by the order of float32
    sums and by the folding of BatchNorm, which together the parity check bounds. With int8 activations the file
    computes what the integer reference does, bit for bit in integer kernels; against the float network each quantized
    tensor is off by half a step, plus what saturates. The file appears under its name only after the check held.
    An autocast around the call is switched off: files compute in float32.

    The file's inputs are called `input` where the network takes one tensor, else as its arguments; its outputs `output`
    or `output_0`, `output_1`, ..., or by the keys of a mapping or the fields of a dataclass that the network returns
    (Hugging Face's `ModelOutput`), without those that are None.

    Args:
        model: Attached with `codeq.attach`; or plain: then a float file, and with int8 a copy compressed at 8 bits. Not
            changed.
        example_inputs: One small batch, of which the first dimension of every tensor counts the inputs: a tensor, a
            tuple in the order of the network's arguments, or a mapping of argument names to tensors (what torch.export
            and torch.onnx.export take as `kwargs`; a tokenizer's result as it is). Float, integer or boolean.
        path: Target. With external data, `<path>.data` appears beside it.
        storage, target, debug_info, opset, state, dynamic_batch, external_data_threshold: As in `OnnxRequest`.
        force: Overwrite.
        accept_mismatch, keep_dead_channels: As in `ExportRequest`.
        check_inputs: Held inputs for the parity check, in the same form; None takes `example_inputs`.
        preprocessing, labels, checkpoint_sha256: Recorded in the file: the first two as in `codeq.save`.
        activations, ranges, activations_except, activation_encodings: As in `Quantization`.
        calibration: Inputs whose activations give the ranges, in the same form, or a DataLoader or another iterable of
            batches of them, as `codeq.data.collect_calibration` takes; None takes `example_inputs`.

    Returns:
        What was written, and its parity verdict.

    Raises:
        ExportError: The network or an option cannot be exported; so a network with an autocast of its own.
        OutputError: The target exists (without `force`), or cannot be written.
        CalibrationError: No inputs, or a tensor without a usable range.
        ParityError: The file does not compute what the network does; nothing was published, unless it
            was accepted.

    Examples:
        report = export_onnx(model, (torch.zeros(1, 3, 32, 32),), "net.onnx")
        print(report)
    """
    request = OnnxRequest(
        quantization=Quantization(
            activations=activations,
            ranges=ranges,
            activations_except=tuple(activations_except),
            calibration=calibration,
            activation_encodings=activation_encodings,
        ),
        force=force,
        accept_mismatch=accept_mismatch,
        keep_dead_channels=keep_dead_channels,
        check_inputs=check_inputs,
        preprocessing=preprocessing,
        labels=labels,
        checkpoint_sha256=checkpoint_sha256,
        storage=storage,
        target=target,
        debug_info=debug_info,
        opset=opset,
        state=state,
        dynamic_batch=dynamic_batch,
        external_data_threshold=external_data_threshold,
    )
    return publish(ONNX, model, example_inputs, Path(path), request)
