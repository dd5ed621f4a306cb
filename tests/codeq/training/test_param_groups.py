"""lambda means the same under every optimizer."""

import math

import pytest
import torch
import torch.nn.functional as F

import codeq
import models
from codeq.data import load_dataset
from codeq.quantizer.attach import quantized_weights


def attached() -> torch.nn.Module:
    model = models.resnet8(in_channels=1, input_size=8)
    codeq.attach(model, bits=None)
    return model


OPTIMIZERS = {
    "sgd": lambda model, **options: torch.optim.SGD(codeq.param_groups(model, torch.optim.SGD, **options)),
    "sgd_momentum_0": lambda model, **options: torch.optim.SGD(
        codeq.param_groups(model, torch.optim.SGD, momentum=0.0, **options)
    ),
    "adamw": lambda model, **options: torch.optim.AdamW(codeq.param_groups(model, torch.optim.AdamW, **options)),
    "adam": lambda model, **options: torch.optim.Adam(codeq.param_groups(model, torch.optim.Adam, **options)),
    "nadam": lambda model, **options: torch.optim.NAdam(codeq.param_groups(model, torch.optim.NAdam, **options)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_theta_without_task_gradient_follows_the_papers_decay(name: str) -> None:
    # theta(t) = 3 exp(-lr lambda t / (1 - 0.9)), for both thetas with their own lambda.
    model = attached()
    optimizer = OPTIMIZERS[name](model, lr=1e-3, theta_lr=1e-3, lambda_dz=0.2, lambda_bit=0.05)
    quantizer = next(quantized_weights(model)).quantizer
    steps = 400
    for _ in range(steps):
        for weight in quantized_weights(model):
            for parameter in weight.quantizer.parameters():
                parameter.grad = torch.zeros(())
        optimizer.step()
    # SGD's momentum starts from rest and lags by up to 1 / (1 - 0.9) steps.
    lag = 10 * 1e-3 * 0.2 / (1 - 0.9)
    assert quantizer.theta_dz.item() == pytest.approx(3 * math.exp(-1e-3 * 0.2 * steps / 0.1), rel=lag)
    assert quantizer.theta_bit is not None
    assert quantizer.theta_bit.item() == pytest.approx(3 * math.exp(-1e-3 * 0.05 * steps / 0.1), rel=lag)


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "sgd"])
def test_theta_with_task_gradient_moves_as_under_sgd(name: str) -> None:
    ends = []
    for kind in ("sgd", name):
        model = attached()
        optimizer = OPTIMIZERS[kind](model, lr=1e-3, theta_lr=1e-3, lambda_dz=0.05)
        quantizer = next(quantized_weights(model)).quantizer
        generator = torch.Generator().manual_seed(0)
        for _ in range(400):
            quantizer.theta_dz.grad = 0.3 + torch.randn((), generator=generator)
            optimizer.step()
        ends.append(3 - quantizer.theta_dz.item())
    assert ends[1] == pytest.approx(ends[0], rel=0.1)


def test_every_parameter_is_in_exactly_one_group_of_its_kind() -> None:
    model = attached()
    groups = codeq.param_groups(model, lr=0.1, weight_decay=1e-4)
    kinds = {group["kind"]: group for group in groups}
    assert list(kinds) == ["weights", "no_decay", "theta_dz", "theta_bit"]
    ids = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(ids) == sorted(map(id, model.parameters()))
    assert all(parameter.ndim >= 2 for parameter in kinds["weights"]["params"])
    assert kinds["weights"]["weight_decay"] == 1e-4
    assert kinds["no_decay"]["weight_decay"] == 0
    assert len(kinds["theta_dz"]["params"]) == len(kinds["theta_bit"]["params"]) == 10


def test_a_fixed_bit_network_has_no_theta_bit() -> None:
    model = models.resnet8()
    codeq.attach(model, bits=4)
    assert [group["kind"] for group in codeq.param_groups(model, lr=0.1)] == ["weights", "no_decay", "theta_dz"]


@pytest.mark.parametrize("optimizer", [torch.optim.RMSprop, torch.optim.Adagrad, torch.optim.RAdam])
def test_optimizers_under_which_lambda_means_nothing_are_refused(optimizer: type[torch.optim.Optimizer]) -> None:
    with pytest.raises(ValueError, match=f"lambda has no meaning under {optimizer.__name__}"):
        codeq.param_groups(attached(), optimizer, lr=1e-3)


@pytest.mark.parametrize("arguments", [{"lr": -1.0}, {"lambda_dz": float("nan")}, {"momentum": 1.0}])
def test_arguments_out_of_range(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} must be"):
        codeq.param_groups(attached(), **({"lr": 0.1} | arguments))  # type: ignore[arg-type]


def zeros_after_training(kind: type[torch.optim.Optimizer], lambda_dz: float) -> float:
    """Digits for ten epochs, weights always under SGD, thetas under `kind`."""
    data = load_dataset("digits")
    torch.manual_seed(0)
    model = models.resnet8(in_channels=1, input_size=8)
    codeq.attach(model, bits=4)
    steps = 10 * len(data.train) // 64
    options = {"lr": 0.05, "theta_lr": 29.4 / steps, "lambda_dz": lambda_dz}
    weights = [group for group in codeq.param_groups(model, **options) if not group["kind"].startswith("theta")]
    thetas = [group for group in codeq.param_groups(model, kind, **options) if group["kind"].startswith("theta")]
    optimizers = [torch.optim.SGD(weights), kind(thetas)]
    for step in range(steps):
        index = torch.randint(len(data.train), (64,), generator=torch.Generator().manual_seed(step))
        for optimizer in optimizers:
            optimizer.zero_grad()
        F.cross_entropy(model(data.train.load(index)), data.train.labels[index]).backward()
        for optimizer in optimizers:
            optimizer.step()
    return codeq.summary(model, (1, 8, 8)).sparsity


@pytest.mark.full
@pytest.mark.parametrize("lambda_dz", [0.01, 0.05])
def test_the_same_lambda_gives_the_same_zeros_under_adamw_and_sgd(lambda_dz: float) -> None:
    sgd = zeros_after_training(torch.optim.SGD, lambda_dz)
    assert 0.3 < sgd < 0.95
    assert zeros_after_training(torch.optim.AdamW, lambda_dz) == pytest.approx(sgd, abs=0.03)
