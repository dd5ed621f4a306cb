"""The state of a run: what is stored is taken back whole, damage and another teacher are named."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import codeq
from codeq.checkpoint import Checkpoint
from codeq.errors import CheckpointError
from codeq.training.divergence import LossGuard
from codeq.training.metrics import EpochResult
from codeq.training.optimizer import Schedule, build_optimizer
from codeq.training.recipe import TrainConfig
from codeq.training.state import TrainingState

CONFIG = TrainConfig(epochs=4, lambda_dz=0.1, optimizer="adamw", teacher="float.pt")
SCHEDULE = Schedule.of(CONFIG, batch_count=3)
ROW = {"epoch": 0, "loss": 0.5, "test_accuracy": 0.9, "sparsity": 0.75, "bits": 4.0, "relative_bops": 0.02}
ROW |= {"entropy_bytes": 9.0, "lambda_dz": 0.1, "zeros_range": [0.5, 0.8], "bits_range": [4, 4]}


@pytest.fixture
def model() -> nn.Module:
    network = nn.Linear(4, 2)
    codeq.attach(network)
    return network


def make_state(model: nn.Module) -> TrainingState:
    optimizer, scheduler = build_optimizer(model, CONFIG, SCHEDULE)
    return TrainingState(optimizer, scheduler, torch.Generator(), LossGuard(10), teacher_sha256="abc")


def unfinished(model: nn.Module, training: dict[str, Any]) -> Checkpoint:
    return Checkpoint(model, Path("part.pt"), "", None, {}, (4,), training=training)


def test_what_is_stored_is_taken_back(model: nn.Module) -> None:
    state = make_state(model)
    for _ in range(3):
        model(torch.ones(2, 4)).sum().backward()
        state.optimizer.step()
        state.scheduler.step()
    state.generator.manual_seed(7)
    state.guard.diverged(1.0)
    restored = make_state(model)
    restored.restore(unfinished(model, state.state_dict() | {"history": [ROW]}), CONFIG, SCHEDULE)
    assert restored.history == [EpochResult.from_dict(ROW)]
    assert restored.step == 3
    assert restored.guard.smoothed == state.guard.smoothed
    assert torch.equal(torch.rand(3, generator=restored.generator), torch.rand(3, generator=state.generator))
    assert restored.scheduler.get_last_lr() == state.scheduler.get_last_lr()
    ours, theirs = restored.optimizer.state_dict()["state"], state.optimizer.state_dict()["state"]
    assert all(torch.equal(ours[key]["exp_avg"], theirs[key]["exp_avg"]) for key in theirs)


@pytest.mark.parametrize("missing", ["optimizer", "scheduler", "generator", "history", "smoothed_loss"])
def test_a_damaged_state_is_named(missing: str, model: nn.Module) -> None:
    stored = make_state(model).state_dict() | {"history": [ROW]}
    del stored[missing]
    with pytest.raises(CheckpointError, match=rf"^part.pt: its training state is damaged \('{missing}'\)$"):
        make_state(model).restore(unfinished(model, stored), CONFIG, SCHEDULE)


def _set(*path: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(stored: dict[str, Any]) -> None:
        at: Any = stored
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value

    return change


def _drop_a_rate(stored: dict[str, Any]) -> None:
    del stored["optimizer"]["param_groups"][0]["betas"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("optimizer", value=torch.ones(3)), "its optimizer"),
        (_set("optimizer", "state", 1, value=torch.ones(3)), "its optimizer holds a Tensor"),
        (_set("optimizer", "state", 0, "exp_avg", value=torch.ones(3, 1)), "its optimizer.exp_avg has shape (3, 1)"),
        (_set("optimizer", "param_groups", 0, value=[]), "its optimizer holds a list"),
        (_set("optimizer", "param_groups", 0, "lr", value="fast"), "its optimizer.lr is a str"),
        (_drop_a_rate, "its optimizer lacks entries"),
        (_set("scheduler", "last_epoch", value=torch.ones(2)), "its scheduler.last_epoch is a Tensor"),
        (_set("scheduler", "base_lrs", value=[0.1]), "its scheduler.base_lrs is no list of"),
    ],
)
def test_what_would_fail_in_a_later_step_is_named(change: Any, message: str, model: nn.Module) -> None:
    state = make_state(model)
    model(torch.ones(2, 4)).sum().backward()
    state.optimizer.step()
    stored = copy.deepcopy(state.state_dict()) | {"history": [ROW]}
    change(stored)
    with pytest.raises(CheckpointError) as raised:
        make_state(model).restore(unfinished(model, stored), CONFIG, SCHEDULE)
    assert str(raised.value).startswith("part.pt: its training state is damaged (")
    assert message in str(raised.value)


def test_another_teacher_is_named(model: nn.Module) -> None:
    stored = make_state(model).state_dict() | {"history": [], "teacher_sha256": "other"}
    with pytest.raises(CheckpointError, match=r"^--teacher float.pt: is not the file that part.pt was started with"):
        make_state(model).restore(unfinished(model, stored), CONFIG, SCHEDULE)
