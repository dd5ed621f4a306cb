"""Outputs are read without a trace: of the mode, of buffers, of the inputs that are held."""

import pytest
import torch
from torch import Tensor, nn

from codeq.quantizer.outputs import add_powers, float_outputs
from codeq.quantizer.power import Power


class Counting(nn.Module):
    """Writes into its input and a buffer, and answers a place beside numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = nn.Buffer(torch.tensor(0))
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        self.calls += 1
        return {"numbers": self.drop(x.mul_(2)), "place": x.argmax(1)}


def test_a_network_and_its_inputs_are_left_alone() -> None:
    network, x = Counting(), torch.ones(2, 3)
    found = float_outputs(network, (x,), ())
    assert found.keys() == {"numbers"}
    assert torch.equal(found["numbers"], torch.full((2, 3), 2.0))  # nothing was dropped
    assert torch.equal(x, torch.ones(2, 3))
    assert network.calls == 0
    assert network.training


def test_powers_add_up_by_output() -> None:
    powers: dict[str, Power] = {}
    for _ in range(2):
        add_powers(powers, {"a": torch.tensor([3.0, 4.0])}, {"a": torch.tensor([3.0, 5.0])})
    assert powers["a"].signal == pytest.approx(50)
    assert powers["a"].noise == pytest.approx(2)
