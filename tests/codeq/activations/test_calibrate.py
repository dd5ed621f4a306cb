"""Calibration: from inputs to grids."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from codeq.activations.calibrate import calibrate
from codeq.activations.encoding import ActivationEncoding
from codeq.activations.plan import plan_activations
from codeq.errors import CalibrationError
from codeq.graph.canonical import canonicalize
from codeq.graph.trace import trace

pytestmark = pytest.mark.quick


def network() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Conv2d(2, 1, 1))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)
    return model.eval()


def grids(inputs: torch.Tensor, **options: object) -> dict[str, ActivationEncoding]:
    exported = trace(network(), (torch.rand(2, 1, 4, 4),))
    canonicalize(exported)
    plan = plan_activations(exported, lambda node: "")
    return calibrate(exported, plan, (inputs,), **options)  # type: ignore[arg-type]


def test_min_max_of_every_tensor_by_hand() -> None:
    x = torch.linspace(-2, 2, 5 * 16).reshape(5, 1, 4, 4)
    found = grids(x, method="min-max")
    assert found == {
        "input": ActivationEncoding.from_range(-2, 2),
        "0": ActivationEncoding.from_range(0, 3),  # relu(x + 1)
        "2": ActivationEncoding.from_range(1, 7),  # 2 relu(x + 1) + 1
    }


def test_the_batch_size_does_not_matter(rng: torch.Generator) -> None:
    x = torch.randn(7, 1, 4, 4, generator=rng)
    assert grids(x, batch_size=1) == grids(x, batch_size=7)


def test_inputs_may_come_in_batches_or_by_name(rng: torch.Generator) -> None:
    x = torch.randn(7, 1, 4, 4, generator=rng)
    labels = torch.arange(7)
    exported = trace(network(), (x[:2],))
    canonicalize(exported)
    plan = plan_activations(exported, lambda node: "")
    loader = DataLoader(TensorDataset(x, labels), batch_size=3)
    for inputs in (x, [x[:4], x[4:]], loader, {"input": x}, x.numpy()):
        assert calibrate(exported, plan, inputs) == grids(x)
    with pytest.raises(CalibrationError, match="calibration gives other, the network takes input"):
        calibrate(exported, plan, {"other": x})


def test_no_inputs() -> None:
    with pytest.raises(CalibrationError, match="calibration needs at least one input, found none"):
        grids(torch.zeros(0, 1, 4, 4))


def test_a_layer_that_gives_only_zeros_starts_at_zero_behind_a_relu() -> None:
    assert grids(torch.full((3, 1, 4, 4), -1.5))["0"] == ActivationEncoding.from_range(0, 1)
