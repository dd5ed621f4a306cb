"""Held inputs fill whole batches, and a network that looks at its batch is refused."""

import pytest
import torch
from torch import Tensor, nn

from export.errors import ExportError
from export.parity.held import hold_inputs

pytestmark = pytest.mark.quick


class Centred(nn.Module):
    """Answers with what an input is beside the others."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


def test_inputs_are_repeated_to_whole_batches() -> None:
    """Batch sizes are 1 and 3: four inputs become six, the first two again."""
    inputs = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    held = hold_inputs(nn.ReLU(), inputs)
    assert held.inputs[0].flatten().tolist() == [1, 2, 3, 4, 1, 2]
    assert (held.count, held.batch_sizes, held.names) == (4, (1, 3), ())
    assert held.expected[0].flatten().tolist() == [1, 2, 3, 4, 1, 2]


def test_a_fixed_batch_is_the_only_one() -> None:
    held = hold_inputs(nn.ReLU(), torch.ones(3, 1), fixed_batch=2)
    assert (held.count, held.batch_sizes, len(held.inputs[0])) == (3, (2,), 4)


def test_the_network_answers_in_eval_mode_and_keeps_its_mode() -> None:
    network = nn.Dropout(0.5).train()
    held = hold_inputs(network, torch.ones(3, 8))
    assert (held.expected[0] == 1).all()
    assert network.training


def test_a_network_that_depends_on_its_batch_is_refused() -> None:
    inputs = torch.tensor([[1.0], [2.0], [3.0]])
    with pytest.raises(ExportError, match=r"output 0 of Centred depends on the batch: alone, .*\(by 1\)"):
        hold_inputs(Centred(), inputs)
    assert hold_inputs(Centred(), inputs, fixed_batch=3).expected[0].flatten().tolist() == [-1, 0, 1]


class Counts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.total = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * 2


def test_the_network_may_write_into_its_inputs_and_buffers_and_neither_changes() -> None:
    class Centres(Counts):
        def forward(self, x: Tensor) -> Tensor:
            self.total += 1
            return super().forward(x.sub_(0.5))

    network, inputs = Centres(), torch.tensor([[1.0], [2.0]])
    held = hold_inputs(network, inputs)
    assert inputs.flatten().tolist() == [1, 2]
    assert held.inputs[0].flatten().tolist() == [1, 2, 1]
    assert held.expected[0].flatten().tolist() == [1, 3, 1]
    assert (float(network.calls), network.total) == (0, 0)


class AlwaysDrops(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, 0.5)


class CountsInAnAttribute(Counts):
    def forward(self, x: Tensor) -> Tensor:
        self.total += 1
        return x + self.total


@pytest.mark.parametrize("network", [AlwaysDrops(), CountsInAnAttribute()], ids=lambda network: type(network).__name__)
@pytest.mark.parametrize("fixed_batch", [None, 2])
def test_a_network_that_answers_differently_is_refused_as_such(network: nn.Module, fixed_batch: int | None) -> None:
    with pytest.raises(ExportError, match=r"^output 0 of \w+ answers differently on the same input [^\n]+random"):
        hold_inputs(network.eval(), torch.ones(2, 64), fixed_batch=fixed_batch)


def test_a_sequence_of_calls_takes_up_what_the_call_before_left() -> None:
    class Sums(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("sum", torch.ones(()))

        def forward(self, x: Tensor) -> Tensor:
            self.sum += x.sum()
            return x + self.sum

    network = Sums()
    held = hold_inputs(network, torch.tensor([[1.0], [2.0]]), fixed_batch=2, state=["sum"])
    assert held.inputs[0].flatten()[:6].tolist() == [1, 2, 0.75, 1.5, 0.5625, 1.125]  # repeated, and not equal
    assert held.expected[1][:3].tolist() == [4, 6.25, 7.9375]
    assert held.expected[0].flatten()[:4].tolist() == [5, 6, 7, 7.75]
    assert len(held.expected[1]) == 6
    assert network.sum == 1


def test_no_inputs_are_refused() -> None:
    with pytest.raises(ExportError, match="given a batch of no inputs, expected at least one"):
        hold_inputs(nn.ReLU(), torch.ones(0, 1))
