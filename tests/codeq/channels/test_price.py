"""One price decides which channels live; some of every space always do."""

import numpy as np
import pytest
import torch

import codeq
import models
from codeq.channels.price import LEAST_SHARE, affordable, landed, least_cost
from codeq.channels.spaces import ChannelSpaces, find_spaces
from tests.codeq.channels.networks import Depthwise

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def resnet8_spaces() -> ChannelSpaces:
    torch.manual_seed(0)
    network = models.resnet8(in_channels=3, input_size=8)
    codeq.attach(network, 8, channels=True)
    return find_spaces(network, X)


@pytest.mark.parametrize("share", [0.2, 0.4, 0.6, 0.8, 0.99])
def test_multiply_adds_end_within_a_channel_of_what_is_asked(spaces: ChannelSpaces, share: float) -> None:
    everything = np.ones(spaces.count, bool)
    wanted = share * spaces.macs(everything)
    live = affordable(spaces, np.random.default_rng(0).random(spaces.count), wanted)
    assert abs(spaces.macs(live) - wanted) <= spaces.marginal_cost(everything).max()


def test_no_dead_channel_is_worth_more_for_its_cost_than_one_that_lives(spaces: ChannelSpaces) -> None:
    worth = np.random.default_rng(1).random(spaces.count)
    everything = np.ones(spaces.count, bool)
    price = worth / spaces.marginal_cost(everything)
    live = affordable(spaces, worth, 0.5 * spaces.macs(everything))
    assert price[~live].max() < price[live].min()
    costs = np.where(spaces.space == 0, 1.0, 1e6)  # of a space that costs nothing nothing dies
    live = affordable(spaces, worth, 0.6 * spaces.macs(everything), costs=costs)
    assert live[spaces.space == 0].all()


def test_the_guard_keeps_some_of_every_space() -> None:
    network = Depthwise()
    codeq.attach(network, 8, channels=True)
    spaces = find_spaces(network, X)
    live = affordable(spaces, np.arange(spaces.count, dtype=float), 0.0)
    sizes = np.bincount(spaces.space)
    assert np.bincount(spaces.space[live]).tolist() == np.maximum(1, np.ceil(sizes * LEAST_SHARE)).tolist()
    assert live[np.flatnonzero(spaces.space == 0)[-1]]  # the dearest
    assert spaces.macs(live) == least_cost(spaces)


@pytest.mark.parametrize("share", [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["few channels", "resnet8"])
def test_exchanges_land_where_one_price_does_not(
    kind: str, spaces: ChannelSpaces, resnet8_spaces: ChannelSpaces, share: float, seed: int
) -> None:
    margin = np.inf if kind == "few channels" else 0.02
    spaces = spaces if kind == "few channels" else resnet8_spaces
    everything = np.ones(spaces.count, bool)
    wanted, costs = share * spaces.macs(everything), spaces.marginal_cost(everything)
    worth = np.random.default_rng(seed).random(spaces.count)
    before = affordable(spaces, worth, wanted, costs=costs)
    live = landed(spaces, worth, before, wanted, costs)
    assert abs(spaces.macs(live) - wanted) <= min(abs(spaces.macs(before) - wanted), margin * wanted)
    assert (live != before).sum() <= 2 * 8
    counts = np.bincount(spaces.space)
    assert (np.bincount(spaces.space[live]) >= np.maximum(1, np.ceil(counts * LEAST_SHARE))).all()
    worth[~before] = np.inf  # what may not return does not
    again = landed(spaces, worth, before, wanted, costs)
    assert not (again & ~before).any()


def test_what_has_to_live_does(spaces: ChannelSpaces) -> None:
    worth = np.random.default_rng(2).random(spaces.count)
    worth[3] = np.inf
    assert affordable(spaces, worth, least_cost(spaces) * 1.2)[3]
