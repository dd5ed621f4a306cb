"""A step: what the loss is, what clipping keeps, and that a broken loss takes none."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import codeq
from codeq.training.batching import Batch
from codeq.training.distributed import Ranks
from codeq.training.divergence import LossGuard
from codeq.training.optimizer import Schedule, build_optimizer
from codeq.training.recipe import TrainConfig
from codeq.training.state import TrainingState
from codeq.training.step import TrainingStep

RATE = 0.1


def make_step(model: nn.Module, config: TrainConfig, **options: Any) -> TrainingStep:
    optimizer, scheduler = build_optimizer(model, config, Schedule.of(config, 1))
    state = TrainingState(optimizer, scheduler, torch.Generator(), LossGuard(2))
    defaults: dict[str, Any] = {"teacher": None, "clip_norm": 0.0, "ranks": Ranks(0, 1), "device": torch.device("cpu")}
    return TrainingStep(model, state, config, **(defaults | options))


@pytest.fixture
def batch(rng: torch.Generator) -> Batch:
    return Batch(torch.randn(6, 4, generator=rng), torch.tensor([0, 1, 0, 1, 1, 1]), 6)


def test_a_step_lowers_the_loss_that_it_returns(batch: Batch) -> None:
    model = nn.Linear(4, 2)
    step = make_step(model, TrainConfig(bits=32, epochs=4, lr=RATE, warmup_fraction=0.0))
    expected = F.cross_entropy(model(batch.inputs), batch.labels).item()
    losses = [step(batch) for _ in range(3)]
    assert losses[0] == pytest.approx(expected, rel=1e-6)
    assert losses[2] < losses[1] < losses[0]
    assert step.state.step == 3
    assert step.state.scheduler.last_epoch == 3


def test_a_loss_that_is_not_finite_takes_no_step(batch: Batch) -> None:
    model = nn.Linear(4, 2)
    nn.init.constant_(model.bias, float("nan"))
    weight = model.weight.detach().clone()
    step = make_step(model, TrainConfig(bits=32, epochs=4))
    assert step(batch) != step(batch)  # NaN
    assert step.state.step == 0
    assert torch.equal(model.weight, weight)


def test_a_teacher_with_the_whole_share_replaces_the_labels(batch: Batch) -> None:
    model = nn.Linear(4, 2)
    teacher = nn.Linear(4, 2).requires_grad_(False)
    teacher.load_state_dict(model.state_dict())
    config = TrainConfig(bits=32, epochs=4, teacher="float.pt", teacher_weight=1.0)
    step = make_step(model, config, teacher=teacher)
    assert step(batch) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("clip_norm", [0.0, 1.0])
def test_a_spike_throws_neither_weights_nor_thetas_where_it_is_clipped(clip_norm: float, batch: Batch) -> None:
    model = nn.Linear(4, 2)
    codeq.attach(model)
    config = TrainConfig(epochs=1, lambda_dz=1e-6, lr=RATE, warmup_fraction=0.0, weight_decay=0.0)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.register_hook(lambda gradient: gradient * 1e6)
    theta_lr = Schedule.of(config, 1).theta_lr
    make_step(model, config, clip_norm=clip_norm)(batch)
    for is_theta, rate in ((True, theta_lr), (False, RATE)):
        moves = [
            (parameter.detach() - before[name]).norm()
            for name, parameter in model.named_parameters()
            if name.endswith("theta_dz") == is_theta
        ]
        assert (0 < float(torch.stack(moves).norm()) < 1.1 * rate) == bool(clip_norm)
