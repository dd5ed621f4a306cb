"""This module decides what a file takes and gives as codes in place of the network's own inputs and outputs. Exact.

input   int8 code = the code of the network's first quantizer - 128
output  value = scale * (code - zero point), as the tensor's quantization says
"""

from export.errors import ExportError
from export.tflite.build import Build


def float_interface(build: Build) -> tuple[str, ...]:
    """Say what stays float32 in a file that was to take and give codes, one line each.

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
