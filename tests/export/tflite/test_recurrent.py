"""Recurrent layers that are refused say why; tests/cases.py has those that are written out step by step."""

from typing import Any

import pytest
from torch import Tensor, nn


def test_a_given_state_is_refused(refused: Any) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        return m.fc(m.cell(x, x[:, :1, :].transpose(0, 1))[0][:, -1])

    reason = refused(forward, (4, 3), cell=nn.GRU(3, 3, batch_first=True), fc=nn.Linear(3, 2))
    expected = "cell: gru: its first state is given; only a state of zeros can be written; export.onnx may take it ("
    assert reason.startswith(expected + "test_recurrent.py, line ")


@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_projected_outputs_are_refused(refused: Any) -> None:
    cell = nn.LSTM(3, 5, proj_size=2, batch_first=True)
    reason = refused(lambda m, x: m.fc(m.cell(x)[0][:, -1]), (4, 3), cell=cell, fc=nn.Linear(2, 2))
    assert "its outputs are projected (proj_size)" in reason


@pytest.mark.parametrize("limit", [10, pytest.param(1024, marks=pytest.mark.full)])
def test_a_long_sequence_is_refused(refused: Any, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    from export.tflite.operators import recurrent

    assert recurrent.MAX_STEPS == 1024
    monkeypatch.setattr(recurrent, "MAX_STEPS", limit)
    cell = nn.GRU(3, 5, num_layers=2, batch_first=True)
    shape = (limit // 2 + 1, 3)
    reason = refused(lambda m, x: m.fc(m.cell(x)[0][:, -1]), shape, cell=cell, fc=nn.Linear(5, 2))
    assert f"it would be written out in {limit + 2} steps, more than {limit}" in reason
