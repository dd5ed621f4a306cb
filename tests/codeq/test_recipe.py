"""What a recipe refuses, and how options and recipes combine."""

from typing import Any

import pytest

from codeq.errors import DataError
from codeq.recipe import RANGES, RECIPES, TrainConfig, resolve


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 0},
        {"batch_size": 1},
        {"freeze_fraction": 2.0},
        {"bits": 9},
        {"lr": "x"},
        {"sparsity": 1.0},
        {"bops": float("nan")},
        {"optimizer": "lion"},
        {"theta_init": 0.0},
        {"autocast": "float16"},
        {"label_smoothing": 1.0},
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(changes))} must be"):
        TrainConfig(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sparsity": 0.9, "lambda_dz": 0.1}, "--lambda-dz and --sparsity contradict each other"),
        ({"sparsity": 0.9, "bops": 0.1, "size": 1e5}, "--sparsity and --bops and --size contradict"),
        ({"bits": 32, "size": 1e5}, "--size needs quantized weights"),
        ({"activations": "int8", "grid": "paper"}, "--activations int8 needs quantized weights on the integer grid"),
        ({"activations": "int8", "autocast": "bfloat16"}, "--activations int8 and --autocast bfloat16"),
    ],
    ids=str,
)
def test_contradictions_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        TrainConfig(**changes)


def test_every_number_has_a_range() -> None:
    numbers = {name for name, value in vars(TrainConfig()).items() if isinstance(value, int | float)}
    assert numbers - set(RANGES) <= {"bits", "flip"}


def test_what_is_asked_for_replaces_the_recipes() -> None:
    assert resolve("ours", {}) == TrainConfig()
    adamw = resolve("ours", {"optimizer": "adamw"})
    assert (adamw.lr, adamw.weight_decay) == (6e-3, 1e-2)
    assert resolve("ours", {"optimizer": "adamw", "lr": 0.5}).lr == 0.5
    paper = resolve("paper", {"epochs": 3})
    assert (paper.epochs, paper.lambda_dz, paper.budget) == (3, 0.01, None)
    assert resolve("paper", {"lambda_dz": 0.5}).lambda_dz == 0.5
    budgeted = resolve("paper", {"bops": 0.1})
    assert (budgeted.lambda_dz, budgeted.bops, budgeted.optimizer) == (None, 0.1, "sgd")
    twin = resolve("paper", {"bits": 32})
    assert (twin.lambda_dz, twin.is_float) == (None, True)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_one(name: str) -> None:
    assert resolve(name, {"bits": None}).bits is None


@pytest.mark.parametrize(("fraction", "step"), [(0.0, 100), (0.2, 80), (0.25, 75), (1.0, 0), (0.001, 100)])
def test_grids_freeze_for_the_last_part(fraction: float, step: int) -> None:
    assert TrainConfig(freeze_fraction=fraction).freeze_step(100) == step
