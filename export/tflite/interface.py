"""What a file takes and gives in place of the network's own inputs and outputs: other axes, or codes. Exact.

input   int8 code = the code of the network's first quantizer - 128
output  value = scale * (code - zero point), as the tensor's quantization says
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from codeq.activations.encoding import ActivationEncoding
from export.errors import ExportError
from export.tflite.build import UINT8_TO_INT8, Build
from export.tflite.weights.layout import CHANNELS_LAST

SUFFIX = "_quantized"
"""Of tensors of codes."""


def file_inputs(
    build: Build, inputs: tuple[Tensor, ...], encodings: Mapping[str, ActivationEncoding]
) -> tuple[Tensor, ...]:
    """Inputs as a file takes them, axes in PyTorch's order: codes where it takes codes.

    Args:
        build: Of the file.
        inputs: The network's.
        encodings: The grids of its activations.
    """
    tensors = [build.graph.tensors[number] for number in build.graph.inputs.values()]
    return tuple(
        x if tensor.quantization is None else _signed(encodings[tensor.name.removesuffix(SUFFIX)].quantize(x))
        for x, tensor in zip(inputs, tensors, strict=True)
    )


def real_output(build: Build, name: str, values: np.ndarray) -> np.ndarray:
    """An output of a file as the network gives it: floats, axes in PyTorch's order."""
    grid = build.graph.tensors[build.graph.outputs[name]].quantization
    if grid is not None:
        values = (values.astype(np.float32) - np.float32(grid.zero_point)) * grid.scale
    if not build.channels_last_io or values.ndim not in CHANNELS_LAST:
        return values
    return np.ascontiguousarray(values.transpose(np.argsort(CHANNELS_LAST[values.ndim])))


def float_interface(build: Build) -> tuple[str, ...]:
    """What stays float32 in a file that was to take and give codes, one line each.

    Raises:
        ExportError: Everything does.
    """
    graph = build.graph
    inputs = [name for name, number in graph.inputs.items() if graph.tensors[number].quantization is None]
    outputs = [name for name, number in graph.outputs.items() if graph.tensors[number].quantization is None]
    if len(inputs) + len(outputs) == len(graph.inputs) + len(graph.outputs):
        raise ExportError(
            f"--io int8: {', '.join([*inputs, *outputs])} would stay float32, as no input is read by its quantizer "
            "alone and no output is computed on codes; use --io float"
        )
    return (
        *(f"{name} stays float32: it is read as floats" for name in inputs),
        *(f"{name} stays float32: it is not computed on codes" for name in outputs),
    )


def _signed(codes: Tensor) -> Tensor:
    return (codes.short() + UINT8_TO_INT8).to(torch.int8)
