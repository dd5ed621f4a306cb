"""A small .tflite file of two operators and a sparse weight, and copies of it with something else in them."""

from collections.abc import Callable
from typing import Any

import numpy as np

from export.tflite.file.flatbuffer import align_buffers, pack_model, read, write
from export.tflite.file.graph import Graph, Tensor, TensorGrid

Change = Callable[[Any], object]


def small_file() -> bytes:
    """Write y = conv(pad(x), densified codes) on codes."""
    floats, codes = np.dtype(np.float32), np.dtype(np.int8)
    graph = Graph()
    grid = TensorGrid(np.float32([0.5]))
    weight = np.zeros((4, 3, 3, 2), np.int8)
    weight[1, 2, :, 1] = 3
    x = graph.add_tensor(Tensor("x", (1, 5, 5, 2), floats, open_batch=(0,)))
    paddings = graph.add_tensor(
        Tensor("paddings", (4, 2), np.dtype(np.int32), np.int32([[0, 0], [1, 1], [1, 1], [0, 0]]))
    )
    padded = graph.add_tensor(Tensor("padded", (1, 7, 7, 2), floats, open_batch=(0,)))
    sparse = graph.add_tensor(Tensor("sparse", weight.shape, codes, weight, grid, form="csr"))
    dense = graph.add_tensor(Tensor("dense", weight.shape, codes, None, grid))
    plain = graph.add_tensor(Tensor("plain", weight.shape, floats))
    bias = graph.add_tensor(Tensor("bias", (4,), floats, np.float32([1, 2, 3, 4])))
    y = graph.add_tensor(Tensor("y", (1, 5, 5, 4), floats, open_batch=(0,)))
    options = {"padding": 1, "strideW": 1, "strideH": 1, "dilationWFactor": 1, "dilationHFactor": 1}
    graph.add_operator("PAD", 1, (x, paddings), padded, {})
    graph.add_operator("DENSIFY", 1, (sparse,), dense, {})
    graph.add_operator("DEQUANTIZE", 2, (dense,), plain, {})
    graph.add_operator("CONV_2D", 1, (padded, plain, bias), y, options)
    graph.inputs, graph.outputs = {"x": x}, {"y": y}
    return write(graph, {"about": "{}"})


def changed(change: Change) -> bytes:
    """Write the same with something else in its `ModelT`."""
    data = small_file()
    model = read(data)
    model.buffers = align_buffers(model)
    change(model)
    return pack_model(model, len(data))


def tensor(model: Any, name: str) -> Any:
    """Find a tensor by its name."""
    return next(found for found in model.subgraphs[0].tensors if found.name == name.encode())
