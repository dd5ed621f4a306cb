"""Recurrent layers, written out step by step: LiteRT against PyTorch. What they must refuse says why."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

LAYERS: dict[str, tuple[type[nn.RNNBase], dict[str, Any]]] = {
    "gru": (nn.GRU, {}),
    "gru, both directions, two layers": (nn.GRU, {"num_layers": 2, "bidirectional": True}),
    "gru without biases": (nn.GRU, {"bias": False}),
    "lstm": (nn.LSTM, {}),
    "lstm, both directions, two layers": (nn.LSTM, {"num_layers": 2, "bidirectional": True}),
    "rnn": (nn.RNN, {}),
    "rnn with relu": (nn.RNN, {"nonlinearity": "relu"}),
}


def states(m: Any, x: Tensor) -> Tensor:
    """All outputs and all final states of a layer, in one matrix."""
    outputs, final = m.cell(x)
    kinds = final if isinstance(final, tuple) else (final,)
    flat = [outputs.flatten(1), *(kind.transpose(0, 1).flatten(1) for kind in kinds)]
    return m.fc(torch.cat(flat, 1))


def width(layer: nn.RNNBase, length: int) -> int:
    directions = 2 if layer.bidirectional else 1
    kinds = 2 if isinstance(layer, nn.LSTM) else 1
    return directions * layer.hidden_size * (length + kinds * layer.num_layers)


@pytest.mark.parametrize("activations", ["float32", "int8"])
@pytest.mark.parametrize(("kind", "options"), LAYERS.values(), ids=LAYERS)
def test_every_state(export: Any, kind: type[nn.RNNBase], options: dict[str, Any], activations: str) -> None:
    cell = kind(3, 5, batch_first=True, **options)
    report = export(states, (4, 3), activations, cell=cell, fc=nn.Linear(width(cell, 4), 6))
    assert report.verdict.ok


def test_the_sequence_first(export: Any) -> None:
    forward = lambda m, x: m.fc(m.cell(x.transpose(0, 1))[0][-1])  # noqa: E731
    assert export(forward, (4, 3), cell=nn.GRU(3, 5), fc=nn.Linear(5, 6)).verdict.ok


def test_one_step(export: Any) -> None:
    forward = lambda m, x: m.fc(m.cell(x)[0][:, 0])  # noqa: E731
    assert export(forward, (1, 3), cell=nn.GRU(3, 5, batch_first=True), fc=nn.Linear(5, 6)).verdict.ok


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
