"""Checkpoints of a run: what each kind says of itself, and what all of them carry."""

from pathlib import Path

import pytest
import torch

import codeq
from codeq.data import Dataset
from codeq.data.tensors import build_dataset
from codeq.training.divergence import LossGuard
from codeq.training.network import build_network
from codeq.training.optimizer import Schedule, build_optimizer
from codeq.training.recipe import TrainConfig
from codeq.training.run_checkpoint import STORED_INPUTS, RunCheckpoints, StoredInputs
from codeq.training.state import TrainingState

CONFIG = TrainConfig(lambda_dz=0.1)


@pytest.fixture
def data(rng: torch.Generator) -> Dataset:
    pixels = torch.randint(0, 256, (150, 1, 8, 8), generator=rng, dtype=torch.uint8)
    labels = torch.arange(150) % 3
    return build_dataset(
        (pixels, labels),
        (pixels[:20], labels[:20]),
        num_classes=3,
        max_pixel=255,
        shift=0,
        flip=False,
        source="random",
    )


@pytest.fixture
def checkpoints(data: Dataset) -> RunCheckpoints:
    inputs = StoredInputs.of(data)
    network = build_network(CONFIG, data, inputs.calibration)
    optimizer, scheduler = build_optimizer(network.model, CONFIG, Schedule.of(CONFIG, 5))
    state = TrainingState(optimizer, scheduler, torch.Generator(), LossGuard(3))
    return RunCheckpoints(CONFIG, network, data, inputs, state)


def test_each_kind_of_checkpoint_says_which_it_is(checkpoints: RunCheckpoints, tmp_path: Path) -> None:
    checkpoints.save_unfinished(tmp_path / "part.pt", {})
    checkpoints.save_epoch(tmp_path / "best.pt", 2, {"test_accuracy": 0.5})
    checkpoints.save_finished(tmp_path / "whole.pt", {"test_accuracy": 0.6})
    part, best, whole = (codeq.load(tmp_path / f"{name}.pt") for name in ("part", "best", "whole"))
    assert part.training is not None
    assert best.training is not None
    assert whole.training is not None
    assert part.training["complete"] is False
    assert "optimizer" in part.training
    assert (best.training["complete"], best.training["epoch"], best.metrics["test_accuracy"]) == (True, 2, 0.5)
    assert whole.training.keys() == {"complete", "config", "history"}


def test_a_checkpoint_carries_inputs_of_both_splits(checkpoints: RunCheckpoints, data: Dataset, tmp_path: Path) -> None:
    checkpoints.save_finished(tmp_path / "net.pt", {})
    loaded = codeq.load(tmp_path / "net.pt")
    assert loaded.name == "resnet8"
    assert loaded.arguments == {"in_channels": 1, "input_size": 8, "num_classes": 3}
    assert loaded.preprocessing == {"mean": data.mean, "std": data.std, "max_pixel": [data.max_pixel]}
    assert loaded.labels == data.classes
    assert loaded.calibration_inputs is not None
    assert loaded.held_inputs is not None
    assert len(loaded.calibration_inputs) == STORED_INPUTS
    assert torch.equal(loaded.held_inputs, data.test.load(torch.arange(20)))
