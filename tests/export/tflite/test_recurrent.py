"""Recurrent layers that are refused say why; tests/cases.py has those that are written out step by step."""

from typing import Any

import pytest
from torch import Tensor, nn


def test_a_given_state_is_refused(refused: Any) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        return m.fc(m.cell(x, x[:, :1, :].transpose(0, 1))[0][:, -1])

    reason = refused(forward, (4, 3), cell=nn.GRU(3, 3, batch_first=True), fc=nn.Linear(3, 2))
    assert reason == "cell: gru: its first state is given; only a state of zeros can be written"


@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_projected_outputs_are_refused(refused: Any) -> None:
    cell = nn.LSTM(3, 5, proj_size=2, batch_first=True)
    reason = refused(lambda m, x: m.fc(m.cell(x)[0][:, -1]), (4, 3), cell=cell, fc=nn.Linear(2, 2))
    assert "its outputs are projected (proj_size)" in reason


def test_a_long_sequence_is_refused(refused: Any) -> None:
    cell = nn.GRU(3, 5, num_layers=2, batch_first=True)
    reason = refused(lambda m, x: m.fc(m.cell(x)[0][:, -1]), (513, 3), cell=cell, fc=nn.Linear(5, 2))
    assert "it would be written out in 1026 steps, more than 1024" in reason
