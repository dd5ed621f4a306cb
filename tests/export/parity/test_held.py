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


def test_no_inputs_are_refused() -> None:
    with pytest.raises(ExportError, match="parity needs at least one input"):
        hold_inputs(nn.ReLU(), torch.ones(0, 1))
