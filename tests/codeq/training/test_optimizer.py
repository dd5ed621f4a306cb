"""The schedule by hand, learning rates over a run, and which networks get their gradients clipped."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

import codeq
import models
from codeq.training.optimizer import DEPTHWISE_CLIP_NORM, Schedule, build_optimizer, choose_clip_norm
from codeq.training.recipe import TrainConfig

CONFIG = TrainConfig(epochs=10, lambda_dz=0.01, lr=0.1, warmup_fraction=0.1, freeze_fraction=0.2)


def test_a_schedule_by_hand() -> None:
    # 29.4, the paper's travel, over 1000 steps; the last fifth of them is frozen.
    assert Schedule.of(CONFIG, 100) == Schedule(100, 1000, 800, pytest.approx(0.0294))
    assert Schedule.of(CONFIG, 1).theta_lr == 0.2  # a short run's largest
    assert Schedule.of(replace(CONFIG, lambda_dz=1.0), 100).theta_lr == pytest.approx(0.01)  # a tenth of theta a step


def test_only_lambdas_that_act_slow_theta_down() -> None:
    def theta_lr(**changes: Any) -> float:
        return Schedule.of(replace(CONFIG, **changes), 10).theta_lr

    assert theta_lr(lambda_bit=100.0) == theta_lr()
    assert theta_lr(lambda_bit=100.0, bits=None) < theta_lr()
    budget: dict[str, Any] = {"bits": None, "lambda_dz": None, "bops": 0.06}
    assert theta_lr(lambda_bit=100.0, **budget) == theta_lr(lambda_bit=0.0, **budget)


@pytest.mark.parametrize("budget", [False, True])
def test_rates_rise_and_fall_as_a_cosine_and_a_budget_s_thetas_keep_theirs(budget: bool) -> None:
    config = replace(CONFIG, lambda_dz=None if budget else 0.01)
    model = nn.Linear(4, 2)
    codeq.attach(model)
    schedule = Schedule.of(config, 1)  # 10 steps, one of them to warm up
    optimizer, scheduler = build_optimizer(model, config, schedule, nn.Linear(1, 1))
    rates = []
    for _ in range(schedule.steps):
        rates.append({group["kind"]: group["lr"] / group["initial_lr"] for group in optimizer.param_groups})
        optimizer.step()
        scheduler.step()
    assert rates[0]["weights"] == 1
    assert rates[5]["weights"] == rates[5]["activations"] == pytest.approx(0.5)
    assert rates[5]["theta_dz"] == (1 if budget else pytest.approx(0.5))
    assert rates[9]["weights"] == pytest.approx(0.5 * (1 + torch.cos(torch.tensor(0.9 * torch.pi)).item()))


@pytest.mark.parametrize(
    ("name", "changes", "norm"),
    [
        ("ds_cnn", {}, DEPTHWISE_CLIP_NORM),
        ("ds_cnn", {"clip_norm": 0.0}, 0),
        ("ds_cnn", {"clip_norm": 5.0}, 5),
        ("ds_cnn", {"bits": 32, "lambda_dz": None}, 0),
        ("ds_cnn", {"optimizer": "adamw"}, 0),
        ("resnet8", {}, 0),
    ],
    ids=["depthwise", "asked_for_none", "asked_for", "float", "adamw", "plain_convolutions"],
)
def test_which_gradients_are_clipped(name: str, changes: dict[str, Any], norm: float) -> None:
    assert choose_clip_norm(replace(CONFIG, **changes), models.create(name)) == norm
