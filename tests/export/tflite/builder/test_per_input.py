"""Constants that are repeated along the batch, and rows of a batch that differ."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from export.tflite.builder.per_input import per_input_constant
from export.tflite.builder.program_reader import ProgramReader


class Net(nn.Module):
    def __init__(self, rows: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.arange(3.0))
        self.rows = rows

    def forward(self, x: Tensor) -> Tensor:
        return x + self.rows(self.token, x)


ROWS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], list[float] | None]] = {
    "a class token": (lambda token, x: token.expand(x.shape[0], -1), [0.0, 1.0, 2.0]),
    "numbers": (lambda token, x: torch.full((x.shape[0], 3), 0.5), [0.5, 0.5, 0.5]),
    "a place in the batch": (lambda token, x: torch.arange(x.shape[0])[:, None] * 1.0, None),
    "an input": (lambda token, x: x * 2.0, None),
    "a constant": (lambda token, x: token * 2.0, None),
}


@pytest.mark.parametrize(("rows", "expected"), ROWS.values(), ids=ROWS)
def test_rows(program: Any, rows: Callable[[Tensor, Tensor], Tensor], expected: list[float] | None) -> None:
    reader = ProgramReader(program(Net(rows), (3,)))
    add = [node for node in reader.program.exported.graph.nodes if "aten.add" in str(node.target)][-1]
    found = per_input_constant(reader, add.args[1])
    assert (None if found is None else found.tolist()) == (None if expected is None else [expected])
