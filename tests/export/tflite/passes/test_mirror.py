"""Turned by hand: an image of three by two, and a kernel that tells its places apart."""

import numpy as np
import pytest

from export.tflite.file.graph import Graph, Operator, Tensor
from export.tflite.passes.mirror import mirror

pytestmark = pytest.mark.quick


def test_image_and_kernel_are_turned_and_nothing_else() -> None:
    kernel = np.arange(2 * 2 * 3 * 1, dtype=np.int8).reshape(2, 2, 3, 1)
    other = np.arange(4, dtype=np.int8).reshape(4, 1, 1, 1)
    graph = Graph(
        tensors=[
            Tensor("image", (1, 3, 2, 1), np.dtype(np.float32), open_batch=(0,)),
            Tensor("kernel", kernel.shape, kernel.dtype, kernel),
            Tensor("other", other.shape, other.dtype, other),
            Tensor("made", (1, 3, 2, 2), np.dtype(np.float32), open_batch=(0,)),
        ],
        operators=[Operator("CONV_2D", 1, (0, 1), (3,), {"strideH": 1})],
        inputs={"x": 0},
        outputs={"y": 3},
    )
    assert mirror(graph, 0, [1]) == ("kernel",)
    assert graph.tensors[1].data.tolist() == [[[[5], [4], [3]], [[2], [1], [0]]], [[[11], [10], [9]], [[8], [7], [6]]]]
    assert graph.tensors[2].data is other
    rows, columns, convolution = graph.operators
    assert (rows.code, columns.code, convolution.code) == ("REVERSE_V2", "REVERSE_V2", "CONV_2D")
    assert [graph.tensors[operator.inputs[1]].data.tolist() for operator in (rows, columns)] == [[1], [2]]
    assert rows.inputs[0] == 0
    assert columns.inputs[0] == rows.outputs[0]
    assert convolution.inputs == (columns.outputs[0], 1)
    turned = graph.tensors[columns.outputs[0]]
    assert (turned.shape, turned.open_batch) == ((1, 3, 2, 1), (0,))
