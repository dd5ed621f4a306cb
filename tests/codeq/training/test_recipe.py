"""What a recipe refuses, and how options and recipes combine."""

from typing import Any

import pytest

from codeq.errors import DataError
from codeq.toolkit.options import option_fields
from codeq.training.recipe import GROUPS, RECIPES, UNUSED, TrainConfig, resolve

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 0},
        {"batch_size": 1},
        {"freeze_fraction": 2.0},
        {"bits": 9},
        {"lr": "x"},
        {"sparsity": 1.0},
        {"sparsity": 0},
        {"seed": True},
        {"bops": float("nan")},
        {"optimizer": "lion"},
        {"theta_init": 0.0},
        {"autocast": "float16"},
        {"label_smoothing": 1.0},
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any]) -> None:
    name, value = next(iter(changes.items()))
    with pytest.raises(ValueError, match=f"^{name} {value!r}, expected"):
        TrainConfig(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sparsity": 0.9, "lambda_dz": 0.1}, "--lambda-dz and --sparsity contradict each other"),
        ({"sparsity": 0.9, "bops": 0.1, "size": 1e5}, "--sparsity and --bops and --size contradict"),
        ({"bits": 32, "size": 1e5}, "--size needs quantized weights"),
        ({"macs": 0.5, "latency": 0.5, "kernel_times": "t.json"}, "--macs and --latency contradict each other"),
        ({"latency": 0.5}, "--latency and --kernel-times go together; python -m runtime_tests.kernel_times measures"),
        ({"kernel_times": "t.json"}, "--latency and --kernel-times go together"),
        ({"latency": 0.5, "kernel_times": "t.json", "freeze_fraction": 1.0}, "--latency needs steps before grids"),
        ({"latency": 0.5, "kernel_times": "t.json", "bits": 32}, "--latency needs quantized weights"),
        ({"activations": "int8", "bits": 32}, "--activations int8 needs quantized weights; leave it or --bits 32 out"),
        ({"activations": "int8", "grid": "paper"}, "--activations int8 needs the integer grid, frozen while"),
        ({"activations": "int8", "freeze_fraction": 0.0}, "use --grid integer --freeze-fraction 0.2"),
        ({"activations": "int8", "autocast": "bfloat16"}, "--activations int8 and --autocast bfloat16"),
    ],
    ids=str,
)
def test_contradictions_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        TrainConfig(**changes)


@pytest.mark.parametrize(
    ("recipe", "asked", "message"),
    [
        ("ours", {"input_size": 64}, "--input-size would do nothing without --data images:DIR; leave --input-size out"),
        ("ours", {"bits": 32, "theta_init": 1.0}, "--theta-init would do nothing with --bits 32"),
        (
            "ours",
            {"bits": 32, "grid": "paper", "grid_limit": 63},
            "--grid and --grid-limit would do nothing with --bits",
        ),
        ("ours", {"bits": 32, "theta_gradient": "lsq"}, "--theta-gradient would do nothing with --bits 32"),
        ("ours", {"bits": 32, "freeze_fraction": 0.1}, "--freeze-fraction would do nothing with --bits 32"),
        ("paper", {"grid_limit": 63}, "--grid-limit would do nothing with --grid paper; leave --grid-limit out"),
        ("ours", {"lambda_bit": 0.1}, "--lambda-bit would do nothing without --bits mixed"),
        ("ours", {"bit_ratio": 0.1, "bops": 0.1}, "--bit-ratio would do nothing without --bits mixed"),
        ("ours", {"bits": None, "lambda_bit": 0.1, "size": 1e4}, "--lambda-bit would do nothing with --bops or --size"),
        ("ours", {"bits": None, "bit_ratio": 0.1}, "--bit-ratio would do nothing without --bops or --size"),
        ("paper", {"bits": None, "bit_ratio": 0.1}, "--bit-ratio would do nothing without --bops or --size"),
        (
            "ours",
            {"bits": None, "bit_ratio": 0.1, "bops": 0.1, "freeze_fraction": 1.0},
            "--bit-ratio would do nothing wi",
        ),
        ("ours", {"lambda_dz": 0.1, "freeze_fraction": 1.0}, "--lambda-dz would do nothing with --freeze-fraction 1"),
        ("ours", {"momentum": 0.5, "optimizer": "adamw"}, "--momentum would do nothing without --optimizer sgd"),
        ("ours", {"teacher_weight": 0.5, "temperature": 1.0}, "--teacher-weight and --temperature would do nothing wi"),
        (
            "ours",
            {"teacher": "a", "teacher_weight": 0, "temperature": 1},
            "--teacher and --temperature would do nothing with --teache",
        ),
        (
            "ours",
            {"teacher": "a", "teacher_weight": 1, "label_smoothing": 0.1},
            "--label-smoothing would do nothing wi",
        ),
    ],
    ids=str,
)
def test_what_would_do_nothing_is_refused(recipe: str, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=f"^{message}"):
        resolve(recipe, asked)


@pytest.mark.parametrize(
    ("recipe", "asked"),
    [
        ("ours", {"bits": None, "lambda_bit": 0.1, "sparsity": 0.5}),
        ("ours", {"bits": None, "lambda_bit": 0.1}),
        ("ours", {"bits": None, "bit_ratio": 0.1, "size": 1e4}),
        ("ours", {"input_size": 64, "data": "images:here"}),
        ("ours", {"optimizer": "adamw"}),
        ("ours", {"bits": 32, "teacher": "a", "temperature": 1.0, "label_smoothing": 0.1}),
        ("paper", {"bits": 32}),
        ("paper", {"bops": 0.1, "grid": "integer", "grid_limit": 63, "momentum": 0.5}),
        ("paper", {"activations": "int8", "grid": "integer", "freeze_fraction": 0.2}),
    ],
    ids=str,
)
def test_what_has_its_part_is_taken(recipe: str, asked: dict[str, Any]) -> None:
    config = resolve(recipe, asked)
    assert all(getattr(config, name) == value for name, value in asked.items())


def test_unused_options_are_settings() -> None:
    assert {name for names, _, _ in UNUSED for name in names} < set(vars(TrainConfig()))


def test_lambda_bit_acts_on_learned_bits_that_no_budget_steers() -> None:
    assert TrainConfig(bits=None, lambda_bit=0.3).acting_lambda_bit == 0.3
    assert TrainConfig(bits=None, lambda_bit=0.3, lambda_dz=0.1).acting_lambda_bit == 0.3
    assert TrainConfig(bits=4, lambda_bit=0.3).acting_lambda_bit == 0
    assert TrainConfig(bits=None, lambda_bit=0.3, bops=0.1).acting_lambda_bit == 0


def test_every_number_has_a_range() -> None:
    numbers = {name for name, value in vars(TrainConfig()).items() if isinstance(value, int | float)}
    bounded = {name for name, (_, about) in option_fields(TrainConfig).items() if None not in (about.low, about.high)}
    assert numbers - bounded <= {"bits", "flip"}


def test_every_setting_has_a_flag_under_a_heading_of_help() -> None:
    options = option_fields(TrainConfig)
    assert set(options) == set(vars(TrainConfig()))
    assert {about.group for _, about in options.values()} == set(GROUPS)


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
