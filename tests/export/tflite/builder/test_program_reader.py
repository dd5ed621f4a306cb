"""What is read from a program: shapes at a batch of 1, names, constants, grids, and what depends on what."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from codeq.graph.nodes import depends_on_input
from export.tflite.builder.program_reader import ProgramReader, dequantize, is_size, quantize


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3)
        self.fc = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        rows = torch.full((x.shape[0], 1), 0.5)
        return self.fc(self.conv(x).reshape(x.shape[0], -1)) + rows


@pytest.fixture
def reader(program: Any) -> ProgramReader:
    return ProgramReader(program(Net(), (2, 4, 4), "int8"))


def nodes(reader: ProgramReader, name: str) -> list[Any]:
    return [node for node in reader.program.exported.graph.nodes if name in str(node.target)]


def test_shapes_are_of_a_batch_of_one(reader: ProgramReader) -> None:
    (conv,) = nodes(reader, "conv2d")
    assert reader.shape(conv) == (1, 3, 2, 2)
    assert reader.open_axes(conv) == (0,)
    like = reader.like(conv, (0, 2, 3, 1), name="y")
    assert (like.name, like.shape, like.dtype, like.open_batch) == ("y", (1, 2, 2, 3), np.float32, (0,))


def test_names_are_those_of_layers(reader: ProgramReader) -> None:
    (conv,), (add,) = nodes(reader, "conv2d"), nodes(reader, "aten.add")
    assert (reader.name(conv), reader.name(add)) == ("conv", "add")
    assert reader.weight_name(conv.args[1]) == "conv.weight"


def test_weights_and_grids(reader: ProgramReader) -> None:
    (conv,) = nodes(reader, "conv2d")
    weight = conv.args[1]
    record = reader.weight_record(weight)
    assert record.name == "conv.weight"
    assert reader.weight_scale(weight).tolist() == record.encoding.scale.reshape(-1).tolist()
    assert reader.constant(weight).shape == (3, 2, 3, 3)  # type: ignore[union-attr]
    assert reader.constant(conv) is None
    quantizer = next(node for node in reader.program.exported.graph.nodes if node.target is quantize)
    grid = reader.program.activations.encodings["input"]  # type: ignore[union-attr]
    assert reader.grid(quantizer).scale.tolist() == [np.float32(grid.scale)]
    assert reader.grid(quantizer).zero_point == grid.zero_point - 128
    assert reader.like(quantizer, (0, 1, 2, 3), reader.grid(quantizer)).dtype == np.int8


def test_what_depends_on_what(reader: ProgramReader) -> None:
    (conv,), (rows,) = nodes(reader, "conv2d"), nodes(reader, "aten.full")
    assert depends_on_input(conv)
    assert not depends_on_input(rows)  # on its batch size alone
    assert conv.args[1].target is dequantize
    assert reader.depends_on_codes(conv.args[1])
    assert not reader.depends_on_codes(conv.args[1].args[0])
    assert any(is_size(node) for node in reader.program.exported.graph.nodes)
    assert not is_size(conv)
