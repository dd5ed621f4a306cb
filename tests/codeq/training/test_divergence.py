"""When a loss counts as lost, and which layer is named for it."""

import math

import pytest
import torch
from torch import nn

from codeq.training.divergence import EXPLODED, LossGuard, where_diverged

pytestmark = pytest.mark.quick

GUESSING = math.log(10)


def test_one_bad_batch_is_forgiven_and_a_lasting_explosion_is_not() -> None:
    guard = LossGuard(10)
    # The first batch is judged like any other: a tenth of it counts.
    assert not guard.diverged(1.5 * EXPLODED * GUESSING)
    for _ in range(30):
        assert not guard.diverged(GUESSING)
    lasting = [guard.diverged(1.5 * EXPLODED * GUESSING) for _ in range(20)]
    assert not lasting[0]
    assert lasting[-1]


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_lost_at_once(loss: float) -> None:
    assert LossGuard(10).diverged(loss)


def test_the_layer_is_named_that_stands_out_in_training(rng: torch.Generator) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 2))
    with torch.no_grad():
        model[0].weight.mul_(1e6)
        model[3].weight.fill_(10.0)
    model[1].eval()
    inputs = torch.randn(16, 3, generator=rng)
    # Running statistics know nothing of the new weights: by them the last layer would reach the most.
    model.eval()
    assert model(inputs).abs().max() > model[0](inputs).abs().max()
    model.train()
    model[1].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert where_diverged(model, inputs).startswith("the output of 0 reaches ")
    assert [module.training for module in model.modules()] == [True, True, False, True, True]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert model[1].track_running_stats
    assert not any(module._forward_hooks for module in model.modules())


def test_infinity_is_found_before_what_follows_from_it(rng: torch.Generator) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    with torch.no_grad():
        model[0].weight.fill_(3e38)
    assert where_diverged(model, 10 + torch.rand(4, 3, generator=rng)) == (
        "the output of 0 has NaN or infinite entries"
    )
    with torch.no_grad():
        model[1].bias[0] = math.nan
    assert where_diverged(model, torch.zeros(4, 3)) == "1.bias has NaN or infinite entries"
