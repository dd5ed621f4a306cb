"""Inspections list what a file carries from call to call: by hand, and of a file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import codeq
from export import export_onnx
from export.inspect import main
from export.metadata import StateMetadata
from export.state_report import state_lines, state_values

STATE = (
    StateMetadata("cache", "cache_output", "float32", (2, 3, 2), 0.0),
    StateMetadata("gain", "gain_output", "float32", (4,), (0.5, 1.0, 1.5, 2.0)),
    StateMetadata("best", "best_output", "float32", (), float("-inf")),
    StateMetadata("calls", "calls_output", "int64", (2,), 3),
)
LINES = """\
state     cache: feed cache_output back; 2x3x2 float32, at first 0
state     gain: feed gain_output back; 4 float32, at first 0.5 to 2
state     best: feed best_output back; scalar float32, at first -inf
state     calls: feed calls_output back; 2 int64, at first 3"""


def test_the_lines() -> None:
    assert state_lines(STATE) == LINES.splitlines()
    assert state_lines(()) == []
    assert state_lines([StateMetadata.of("x", "y", np.zeros((0, 3)))])[0].endswith("0x3 float64, at first empty")


def test_values_are_json_and_whole() -> None:
    values = json.loads(json.dumps(state_values(STATE), allow_nan=False))
    assert [value["initial"] for value in values] == [0.0, [0.5, 1.0, 1.5, 2.0], "-inf", 3]
    assert values[0] | {"initial": 0} == {
        "input": "cache",
        "output": "cache_output",
        "dtype": "float32",
        "shape": [2, 3, 2],
        "initial": 0,
    }
    assert state_values([StateMetadata.of("x", "y", np.array([np.nan, 1], np.float32))])[0]["initial"] == ["nan", 1.0]


class Stream(nn.Module):
    """Its answer is of this call's and the last call's input."""

    last: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 4)
        self.register_buffer("last", torch.tensor([[0.5, 0.0, -1.0]]))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc(x + self.last)
        self.last.copy_(x)
        return y


def test_the_command_shows_what_the_file_carries(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = Stream().eval()
    codeq.attach(model, 4, grid="integer")
    codeq.freeze(model)
    path = tmp_path / "net.onnx"
    export_onnx(model, (torch.ones(1, 3),), path, state="io")
    assert main([str(path)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert "state     last: feed last_output back; 1x3 float32, at first -1 to 0.5" in shown
    assert main([str(path), "--json", "-"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["state"]
    expected: dict[str, Any] = {"input": "last", "output": "last_output", "initial": [0.5, 0.0, -1.0]}
    assert {key: found[key] for key in expected} == expected
