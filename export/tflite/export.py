"""`export_tflite` turns a live network into a .tflite file.

checkpoint -> encodings -> reference program -> LiteRT graph -> file -> parity -> published.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import nn

from codeq.activations.encoding import ActivationEncoding
from codeq.activations.methods import Method
from codeq.data.collect import CalibrationInputs
from codeq.graph.inputs import Inputs
from export.options import ActivationsWord, Quantization
from export.publish import publish
from export.report import Report
from export.tflite.backend import TFLITE
from export.tflite.details import TfliteDetails
from export.tflite.options import WRITER, Io, Layout, Sparse, Target, TfliteRequest, Writer


def export_tflite(
    model: nn.Module,
    example_inputs: Inputs,
    path: str | os.PathLike[str],
    *,
    layout: Layout = "nchw",
    io: Io = "float",
    sparse: Sparse = "auto",
    sparse_inference: Sparse = "auto",
    int4: bool = False,
    hybrid: bool = False,
    batch: int | None = None,
    target: Target = "litert",
    c_array: bool = False,
    backend: Writer = WRITER,
    force: bool = False,
    accept_mismatch: bool = False,
    keep_dead_channels: bool = False,
    check_inputs: Inputs | None = None,
    preprocessing: Mapping[str, list[float]] | None = None,
    labels: Sequence[str] = (),
    checkpoint_sha256: str | None = None,
    activations: ActivationsWord = "float32",
    calibration: CalibrationInputs | None = None,
    ranges: Method = "mse",
    activations_except: Sequence[str] = (),
    activation_encodings: Mapping[str, ActivationEncoding] | None = None,
) -> Report[TfliteDetails]:
    """Write a network as a .tflite file whose weights are exactly those it was trained with.

    With float32 activations each weight is int8 codes behind one DEQUANTIZE; outputs differ from PyTorch's by the order
    of float32 sums. With int8 activations the file computes on codes; the grids are those of the ONNX file, zero points
    128 less. With `hybrid` LiteRT quantizes float activations itself, and outputs are approximate. The file appears
    under its name only after the check held. Its batch is 1 until an interpreter resizes it.

    Args:
        model: Attached with `codeq.attach`; or plain: then a float file, and with int8 a copy compressed at 8 bits. Not
            changed.
        example_inputs, check_inputs, calibration: As for `export_onnx`; float32.
        path: Target.
        layout, io, sparse, sparse_inference, int4, hybrid, batch, target, c_array, backend: As in `TfliteRequest`.
        force: Overwrite.
        accept_mismatch, keep_dead_channels: As in `ExportRequest`.
        preprocessing, labels, checkpoint_sha256: Recorded in the file: the first two as in `codeq.save`.
        activations, ranges, activations_except, activation_encodings: As in `Quantization`.

    Returns:
        What was written, and its parity verdict.

    Raises:
        ExportError: LiteRT is not installed, or the network or an option cannot be exported.
        OutputError: The target exists (without `force`), or cannot be written.
        CalibrationError: No inputs, or a tensor without a usable range.
        ParityError: The file does not compute what the network does; nothing was published, unless it
            was accepted.

    Examples:
        report = export_tflite(model, (torch.zeros(1, 3, 32, 32),), "net.tflite")
        print(report)
    """
    request = TfliteRequest(
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
        layout=layout,
        io=io,
        sparse=sparse,
        sparse_inference=sparse_inference,
        int4=int4,
        hybrid=hybrid,
        batch=batch,
        target=target,
        c_array=c_array,
        backend=backend,
    )
    return publish(TFLITE, model, example_inputs, Path(path), request)
