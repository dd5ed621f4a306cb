"""Networks run a batch at a time, and what cannot run says why in a line."""

import pytest
import torch
from torch import Tensor, nn

from export.errors import ExportError
from export.program.run import batches, in_batches, run_network, take_inputs

pytestmark = pytest.mark.quick

INPUTS = (torch.arange(5.0).reshape(5, 1), torch.ones(5, 1))


class Sum(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return a + b, a - b


class Total(nn.Module):
    def forward(self, a: Tensor) -> Tensor:
        return a.sum()


def test_the_last_batch_may_be_smaller() -> None:
    assert [len(first) for first, _ in batches(INPUTS, 2)] == [2, 2, 1]


@pytest.mark.parametrize("size", [1, 2, 5, 9])
def test_outputs_are_joined_whatever_the_batch(size: int) -> None:
    total, difference = run_network(Sum(), INPUTS, size)
    assert total.flatten().tolist() == [1, 2, 3, 4, 5]
    assert difference.flatten().tolist() == [-1, 0, 1, 2, 3]
    assert in_batches(lambda a, b: (a * b,), INPUTS, size)[0].flatten().tolist() == [0, 1, 2, 3, 4]


def test_inputs_by_name() -> None:
    tensors, names = take_inputs(Sum(), {"b": INPUTS[0], "a": INPUTS[1]})
    assert run_network(Sum(), tensors, 5, names)[1].flatten().tolist() == [1, 0, -1, -2, -3]
    with pytest.raises(ExportError):
        take_inputs(Sum(), "text")  # type: ignore[arg-type]


def test_what_a_network_cannot_take() -> None:
    with pytest.raises(ExportError, match=r"^Linear does not take inputs of torch\.float32 \(2, 1\): ") as raised:
        run_network(nn.Linear(3, 1), INPUTS[:1], 2)
    assert "\n" not in str(raised.value)


def test_an_output_without_a_batch() -> None:
    with pytest.raises(ExportError, match=r"output 0 of Total has shape \(\) for a batch of 5; its first dimension"):
        run_network(Total(), INPUTS[:1], 5)
