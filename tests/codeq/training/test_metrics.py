"""What an epoch is measured by, by hand; and the pulls that are told with it."""

from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
from torch import nn

import codeq
from codeq.quantizer.attach import quantized_weights
from codeq.training.budget_controller import BudgetController
from codeq.training.metrics import EpochResult, current_lambdas, is_best, measure_epoch
from codeq.training.recipe import TrainConfig

RESULT = EpochResult(0, 0.5, 0.9, 0.75, 4.0, 0.02, 100.0, 0.1, (0.5, 0.8), (4, 4))


def test_a_result_by_hand() -> None:
    model = nn.Sequential(nn.Linear(4, 2, bias=False), nn.Linear(2, 2, bias=False), nn.Linear(2, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0]]))
        model[1].weight.fill_(1.0)
    codeq.attach(model, bits=4, exclude="2", overrides={"1": {"bits": 8}})
    result, layers = measure_epoch(model, (4,), epoch=2, loss=0.5, test_accuracy=0.9, lambda_dz=0.1)
    assert (result.epoch, result.loss, result.test_accuracy, result.lambda_dz) == (2, 0.5, 0.9, 0.1)
    assert result.sparsity == 6 / 12  # of quantized weights alone
    assert result.bits == (4 * 8 + 8 * 4) / 12
    assert (result.zeros_range, result.bits_range) == ((0, 0.75), (4, 8))
    assert [(layer["name"], layer["bits"], layer["sparsity"]) for layer in layers] == [
        ("0.weight", 4, 0.75),
        ("1.weight", 8, 0),
    ]
    assert layers[0]["theta_dz"] == pytest.approx(3)
    assert layers[0]["theta_bit"] is None


def test_a_float_twin_has_no_layers() -> None:
    result, layers = measure_epoch(nn.Linear(4, 2), (4,), epoch=0, loss=1, test_accuracy=0, lambda_dz=0)
    assert layers == []
    assert (result.sparsity, result.bits, result.relative_bops) == (0, 32, 1)


def test_a_result_survives_a_file_that_knows_lists_only() -> None:
    row = asdict(RESULT) | {"zeros_range": [0.5, 0.8], "bits_range": [4, 4]}
    assert EpochResult.from_dict(row) == RESULT
    with pytest.raises(KeyError):
        EpochResult.from_dict({"epoch": 0})


def test_a_result_is_one_line() -> None:
    assert str(RESULT) == "loss 0.5000  accuracy 90.00%  zeros 75.0% (50% to 80%)  bits 4.00"
    assert str(replace(RESULT, bits=3.5, bits_range=(2, 4))).endswith("bits 3.50 (2 to 4)")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"lambda_dz": 0.1}, (0.1, 0.0)),
        ({"lambda_dz": 0.1, "bits": None, "lambda_bit": 100.0}, (0.1, 100.0)),
        ({"lambda_dz": None, "bits": 32}, (0.0, 0.0)),
        ({"sparsity": 0.5, "bits": None, "lambda_bit": 100.0}, (0.0, 100.0)),
        ({"bops": 0.06, "bits": None, "lambda_bit": 100.0, "bit_ratio": 0.0}, (0.0, 0.0)),
    ],
    ids=["fixed_bits", "learned_bits", "float", "budget_of_zeros", "budget_of_bops"],
)
def test_pulls_by_hand(changes: dict[str, Any], expected: tuple[float, float]) -> None:
    config = TrainConfig(**changes)
    model = nn.Linear(4, 2)
    codeq.attach(model, bits=None if config.bits is None else 4)
    controller = None
    if config.budget is not None:
        controller = BudgetController(model, config.budget, (4,), 10, hold_steps=0, theta_lr=0.1)
        controller.bit_ratio = config.bit_ratio
        expected = (controller.strength, expected[1])
    assert current_lambdas(config, model, controller) == expected
    codeq.freeze(model)
    assert all(bool(weight.quantizer.frozen) for weight in quantized_weights(model))
    assert current_lambdas(config, model, controller) == (0, 0)


def test_the_best_epoch_is_the_first_of_the_most_accurate() -> None:
    history = [replace(RESULT, test_accuracy=accuracy) for accuracy in (0.9, 0.5, 0.6, 0.6)]
    assert [is_best(history[: count + 1], first=1) for count in range(1, 4)] == [True, True, False]
    assert is_best(history[:1], first=0)
    assert not is_best(history[:2], first=0)
