"""Channels die in the order of what they are worth for what they cost, until so many multiply-adds are left."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import codeq
import models
from codeq.channels.shrink import shrink
from codeq.quantizer.attach import quantized_weights
from codeq.training.budget import BudgetError
from codeq.training.channel_controller import ChannelController
from tests.codeq.channels.networks import Attention, Depthwise, Residual

X = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
Y = torch.randint(0, 5, (8,), generator=torch.Generator().manual_seed(1))


def attached(network: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    codeq.attach(network, 8, channels=True)
    return network.train()


def train(network: nn.Module, controller: ChannelController, steps: int, x: Tensor = X, y: Tensor = Y) -> None:
    network.train()
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(network(x), y).backward()
        optimizer.step()
        controller.step()


@pytest.mark.parametrize(
    ("kind", "target"),
    [(Residual, 0.3), (Residual, 0.5), (Residual, 0.7), (Depthwise, 0.3), (Depthwise, 0.6), (Attention, 0.85)],
)
def test_the_budget_is_met_by_what_shrink_takes_out(kind: type[nn.Module], target: float) -> None:
    torch.manual_seed(0)
    network = attached(kind())
    everything = codeq.summary(network, inputs=X).macs
    controller = ChannelController(network, target, X[:2], steps=20)
    train(network, controller, 20)
    # A channel of so small a network is a lot.
    step = controller.spaces.marginal_cost(controller.live).max() / everything
    assert controller.finish() == pytest.approx(target, abs=step)
    macs = shrink(network, X, fold_constants=False).report.macs
    assert macs[1] / macs[0] == pytest.approx(controller.reached, rel=0.02)


def test_a_resnet_lands_within_two_hundredths() -> None:
    torch.manual_seed(0)
    network = models.resnet8(in_channels=3, input_size=8, num_classes=5)
    codeq.attach(network, 8, channels=True)
    controller = ChannelController(network, 0.4, X[:2], steps=10)
    train(network, controller, 10)
    assert controller.finish() == pytest.approx(0.4, rel=0.02)


def test_the_ramp_is_cubic_and_ends_at_half_of_the_steps() -> None:
    network = attached(Residual())
    controller = ChannelController(network, 0.4, X[:2], steps=100)
    assert [controller._planned(step) for step in (0, 25, 50, 100)] == pytest.approx([1, 0.4 + 0.6 / 8, 0.4, 0.4])


class Branches(nn.Module):
    """A channel that the outputs hang on, others that hardly reach them, and an expensive layer that does as much."""

    def __init__(self) -> None:
        super().__init__()
        self.small, self.large = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 8, 5, padding=2)
        self.fc = nn.Linear(16, 5)
        with torch.no_grad():
            self.fc.weight[:, 1:8] *= 1e-2
            self.large.weight.zero_()[:, :, 2:3, 2:3] = self.small.weight  # computes the same
            self.large.bias.copy_(self.small.bias)
            self.fc.weight[:, 8:] = self.fc.weight[:, :8]

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.small(x), self.large(x)], 1)
        return self.fc(F.relu(x).mean((2, 3)))


def test_what_is_worth_more_for_what_it_costs_lives() -> None:
    network = attached(Branches())
    controller = ChannelController(network, 0.18, X[:2], steps=10)
    train(network, controller, 10)
    controller.finish()
    spaces = controller.spaces
    small, large = (controller.live[spaces.space == spaces.names.index(name)] for name in ("small", "large"))
    assert small[0]
    assert small.sum() > large.sum() == 1  # of equals the cheaper stays; the guard keeps one


def test_a_dead_channel_returns_where_it_is_missed() -> None:
    network = attached(Residual())
    controller = ChannelController(network, 0.5, X[:2], steps=400)
    controller._worth[:] = 1e-9 * np.arange(controller.spaces.count)[::-1]  # the last die first
    controller._readings = 1
    controller._mask(controller._affordable(0.5))
    dead = ~controller.live
    controller.taken = 300  # the ramp is over
    train(network, controller, 60)
    assert (controller.live & dead).any()
    assert controller.reached == pytest.approx(0.5, abs=0.05)


def test_a_resumed_run_goes_on_exactly() -> None:
    network = attached(Residual())
    whole = copy.deepcopy(network)
    first = ChannelController(whole, 0.5, X[:2], steps=40)
    train(whole, first, 20)
    train(whole, first, 20)
    half = ChannelController(network, 0.5, X[:2], steps=40)
    train(network, half, 20)
    rest = ChannelController(network, 0.5, X[:2], steps=40)
    rest.load_state_dict(half.state_dict())
    train(network, rest, 20)
    assert first.finish() == rest.finish()
    np.testing.assert_array_equal(first.live, rest.live)
    for one, other in zip(whole.state_dict().values(), network.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(ValueError, match="states of 3 channels"):
        rest.load_state_dict(half.state_dict() | {"live": [True] * 3})


def test_frozen_channels_stay() -> None:
    network = attached(Residual())
    controller = ChannelController(network, 0.5, X[:2], steps=10)
    train(network, controller, 10)
    controller.finish()
    live = controller.live.copy()
    codeq.freeze(network)
    train(network, controller, 10)
    np.testing.assert_array_equal(controller.live, live)
    small, report = shrink(network, X)
    assert report.changed
    with torch.no_grad():
        torch.testing.assert_close(small.eval()(X), network.eval()(X), atol=1e-5, rtol=0)


def test_what_it_refuses() -> None:
    with pytest.raises(BudgetError, match="no channel that could go"):
        ChannelController(attached(nn.Sequential(nn.Flatten(), nn.Linear(192, 5))), 0.5, X[:2], steps=10)
    with pytest.raises(BudgetError, match=r"1.0% of the multiply-adds cannot be met by this network: .*% is the least"):
        ChannelController(attached(Residual()), 0.01, X[:2], steps=10)
    for macs in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="above 0 and below 1"):
            ChannelController(attached(Residual()), macs, X[:2], steps=10)
    untrained = ChannelController(attached(Residual()), 0.5, X[:2], steps=10)
    untrained.step()
    with pytest.raises(BudgetError, match="no step had gradients"):
        untrained.finish()


def test_weights_without_channels_have_no_masks() -> None:
    network = Residual()
    codeq.attach(network, 8)
    assert not any(weight.quantizer.channels for weight in quantized_weights(network))
    with pytest.raises(BudgetError, match=r"no weight is attached with channels=True; call codeq.attach\("):
        ChannelController(network, 0.5, X[:2], steps=10)
