"""A part of a graph computes on its image from behind: rows and columns are turned, and those of its kernels with them.

    x -> windows -> mean over all places    becomes    x -> turned -> windows, kernels turned -> mean over all places

Zeros that stood behind an image then stand in front of it. Every value inside is the one it was, at the mirrored place,
and the mean is the same: exact but for the order of sums.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from export.tflite.file.graph import Graph, Operator, Tensor

AXES = {"rows": 1, "columns": 2}
"""Of an image, and of a kernel, channels last."""


def mirror(graph: Graph, image: int, kernels: Iterable[int]) -> tuple[str, ...]:
    """Turn an image that one operator reads, and kernels, in place.

    Args:
        graph: Of floats.
        image: The tensor's number.
        kernels: Numbers of the tensors that hold them, `(outputs, rows, columns, inputs)`.

    Returns:
        The names of the kernels.
    """
    names = []
    for number in kernels:
        kernel = graph.tensors[number]
        assert kernel.data is not None
        turned = np.ascontiguousarray(np.flip(kernel.data, tuple(AXES.values())))
        graph.tensors[number] = replace(kernel, data=turned)
        names.append(kernel.name)
    place = next(place for place, operator in enumerate(graph.operators) if image in operator.inputs)
    reader, written, source = graph.operators[place], [], image
    for name, axis in AXES.items():  # one at a time: older interpreters turn no two
        numbers = np.array([axis], np.int32)
        operand = graph.add_tensor(Tensor(f"mirrored/{name}/axis", numbers.shape, numbers.dtype, numbers))
        result = graph.add_tensor(replace(graph.tensors[source], name=f"mirrored/{name}"))
        written.append(Operator("REVERSE_V2", 1, (source, operand), (result,), {}))
        source = result
    inputs = tuple(source if number == image else number for number in reader.inputs)
    graph.operators[place : place + 1] = [*written, replace(reader, inputs=inputs)]
    return tuple(names)
