"""A result goes into the clamp and the quantizer that follow, where nothing else reads it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch.nn.functional as F
from torch import Tensor, nn

from export.reference.xnnpack import XNNPACK
from export.tflite.builder.destination import FUSED_CLAMPS, find_destination
from export.tflite.builder.program_reader import ProgramReader, quantize
from export.tflite.file.graph import NO_ACTIVATION, RELU, RELU6


class Net(nn.Module):
    def __init__(self, between: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.one = nn.Conv2d(2, 3, 3)
        self.two = nn.Conv2d(3, 3, 1)
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.between(self.one(x)))


CLAMPS: dict[str, tuple[Callable[[Tensor], Tensor], int, str]] = {
    "none": (lambda x: x + 0.0, NO_ACTIVATION, "conv2d"),
    "relu": (F.relu, RELU, "relu"),
    "relu6": (F.relu6, RELU6, "relu6"),
    "other limits": (lambda x: F.hardtanh(x, -0.5, 0.5), NO_ACTIVATION, "conv2d"),
    "read twice": (lambda x: F.relu(x) + x, NO_ACTIVATION, "conv2d"),
}


@pytest.mark.parametrize(("between", "activation", "last"), CLAMPS.values(), ids=CLAMPS)
def test_clamps(program: Any, between: Callable[[Tensor], Tensor], activation: int, last: str) -> None:
    reader = ProgramReader(program(Net(between), (2, 5, 5)))
    one = next(node for node in reader.program.exported.graph.nodes if "conv2d" in str(node.target))
    target = find_destination(reader, one)
    assert target.activation == activation
    assert f".{last}." in str(target.node.target)
    assert target.quantization is None


@pytest.mark.parametrize("integer", [False, True])
def test_a_quantizer_is_for_operators_on_codes(program: Any, integer: bool) -> None:
    reader = ProgramReader(program(Net(lambda x: x), (2, 5, 5), "int8"))
    one = next(node for node in reader.program.exported.graph.nodes if "conv2d" in str(node.target))
    target = find_destination(reader, one, integer=integer)
    assert (target.quantization is not None) == integer
    assert (target.node.target is quantize) == integer


def test_the_clamps_that_operators_apply_are_those_of_the_reference() -> None:
    assert set(FUSED_CLAMPS) == XNNPACK.clamps
