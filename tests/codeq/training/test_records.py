"""Records have the fields that run_log.py asks for: what is made is written and read."""

from pathlib import Path
from typing import Any

import pytest
from torch import nn

import codeq
from codeq.cost import summary
from codeq.run_log import RunLog, read_run
from codeq.training.metrics import measure_epoch
from codeq.training.recipe import TrainConfig
from codeq.training.records import epoch_record, result_record, start_record


def start(name: str = "net") -> dict[str, Any]:
    return start_record(name, TrainConfig(), steps=30, world_size=1, resumed_epoch=0)


def test_records_are_read_back(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 2))
    codeq.attach(model, bits=None)
    result, layers = measure_epoch(model, (8,), epoch=0, loss=0.5, test_accuracy=0.9, lambda_dz=0.1)
    with RunLog(tmp_path / "net.jsonl") as log:
        log.write(start())
        log.write(epoch_record(result, layers, lambda_bit=0.2, lr=0.01, seconds=1.5))
        log.write(result_record(model, 0.9, summary(model, (8,))))
    run = read_run(tmp_path / "net.jsonl")
    assert run.name == "net"
    assert run.config["bits"] == 4
    (epoch,) = run.epochs
    assert (epoch["epoch"], epoch["lambda_dz"], epoch["lambda_bit"], epoch["lr"]) == (1, 0.1, 0.2, 0.01)
    assert [layer["name"] for layer in epoch["layers"]] == ["0.weight", "1.weight"]
    assert run.result is not None
    assert [weight["name"] for weight in run.result["weights"]] == ["0.weight", "1.weight"]


@pytest.mark.parametrize("name", ["", "a\x1b[31m"])
def test_a_name_that_a_terminal_cannot_print_is_replaced(name: str) -> None:
    assert start(name)["name"] == "run"
