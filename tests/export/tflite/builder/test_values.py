"""Values are read in the order that an operator wants; a transpose or a DEQUANTIZE is written once."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from export.tflite.builder.builder import Builder
from export.tflite.builder.destination import Destination
from export.tflite.builder.refusal import CannotLower
from export.tflite.builder.value import JoinedAxes, Value
from export.tflite.file.graph import TensorGrid
from export.tflite.weights.form import WeightForms

GRID = TensorGrid(np.array([0.5], np.float32), 3)
NHWC = (0, 2, 3, 1)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(2, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.factor).relu()


def make(program: Any, shape: tuple[int, ...] = (2, 4, 3)) -> tuple[Builder, Any, Any]:
    """A builder whose input has a value, the input, and the product of it."""
    build = Builder(program(Net(), shape), WeightForms())
    nodes = build.program.program.exported.graph.nodes
    x = next(node for node in nodes if node.op == "placeholder" and not node.meta["constant"])
    product = next(node for node in nodes if "mul" in str(node.target))
    order = tuple(range(1 + len(shape)))
    build.values.set(x, Value(build.writer.add_input("x", build.program.like(x, order)), order))
    return build, x, product


def codes_of(build: Builder) -> list[str]:
    return [operator.code for operator in build.writer.graph.operators]


def test_another_order_is_a_transpose_that_is_written_once(program: Any) -> None:
    build, x, _ = make(program)
    moved = build.values.read(x, NHWC)
    assert build.values.read(x, NHWC) is moved
    assert build.writer.tensor(moved).shape == (1, 4, 3, 2)
    assert codes_of(build) == ["TRANSPOSE"]
    assert build.values.read(x).order == (0, 1, 2, 3)


def test_where_no_value_moves_a_reshape_will_do(program: Any) -> None:
    build, x, _ = make(program, (2, 1, 1))
    moved = build.values.read(x, NHWC)
    assert (codes_of(build), moved.order) == (["RESHAPE"], NHWC)


def test_floats_of_codes_are_written_once(program: Any) -> None:
    build, x, product = make(program)
    joined = JoinedAxes((2,), (0,))
    tensor = build.writer.add_tensor(build.program.like(product, NHWC, GRID))
    build.values.set(product, Value(tensor, NHWC, GRID, joined))
    assert build.values.are_codes(product)
    assert not build.values.are_codes(product, x)
    floats = build.values.read_float(product)
    assert build.values.read_float(product) is floats
    assert (floats.quantization, floats.joined) == (None, joined)
    assert codes_of(build) == ["DEQUANTIZE"]


def test_constants_are_written_where_they_are_read(program: Any) -> None:
    build, _, product = make(program)
    factor = product.args[1]
    assert factor not in build.values
    value = build.values.read(factor)
    assert factor in build.values
    assert build.writer.tensor(value).name == "factor"
    assert build.writer.tensor(value).data.shape == (2, 1, 1)  # type: ignore[union-attr]


def test_a_result_goes_to_its_target(program: Any) -> None:
    build, x, product = make(program)
    (relu,) = product.users
    build.values.result(product, "MUL", [build.values.read(x), 0], (0, 1, 2, 3), target=Destination(relu, 1))
    assert relu in build.values
    assert product not in build.values
    assert build.writer.tensor(build.values.read(relu)).name == relu.name


def test_parts(program: Any) -> None:
    build, x, product = make(program)
    assert build.values.part(product, 0) is None
    build.values.set_parts(product, [build.values.read(x)])
    assert build.values.part(product, 0) is build.values.read(x)


def test_what_nothing_computes_is_refused(program: Any) -> None:
    build, _, product = make(program)
    with pytest.raises(CannotLower, match="it reads mul, which differs among the inputs of a batch but not by them"):
        build.values.read(product)
