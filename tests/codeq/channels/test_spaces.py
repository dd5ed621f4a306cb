"""What is counted of channels is what `shrink` takes out, whatever ties them."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import codeq
import models
from codeq.channels.shrink import shrink
from codeq.channels.spaces import NONE, ChannelSpaces, find_spaces
from codeq.quantizer.attach import quantized_weights
from tests.codeq.channels.networks import NETWORKS, Attention, Depthwise, Joined, Padded, Residual

X = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def attached(network: nn.Module, **options: object) -> nn.Module:
    for weight in network.parameters():
        if weight.ndim > 1:  # no weight is small enough for a code of 0
            nn.init.uniform_(weight, 0.1, 0.2)
    codeq.attach(network, 8, channels=True, **options)  # type: ignore[arg-type]
    return network.eval()


def killed(network: nn.Module, spaces: ChannelSpaces, live: np.ndarray) -> nn.Module:
    network = copy.deepcopy(network)
    masks = spaces.masks(live)
    for weight in quantized_weights(network):
        if weight.name in masks:
            weight.quantizer.let_live(masks[weight.name])
    return network


@pytest.mark.parametrize("granularity", ["tensor", "channel"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_what_is_counted_goes(kind: Callable[[], nn.Module], granularity: str) -> None:
    torch.manual_seed(1)
    network = attached(kind(), granularity=granularity)
    spaces = find_spaces(network, X)
    assert spaces.count
    draw = np.random.default_rng(0)
    for share in (0.2, 0.5, 0.8):
        live = draw.random(spaces.count) < share
        live[np.unique(spaces.space, return_index=True)[1]] = True
        network_now = killed(network, spaces, live)
        small, report = shrink(network_now, X, fold_constants=False)
        everything = np.ones(spaces.count, bool)
        assert report.macs[0] - report.macs[1] == pytest.approx(spaces.macs(everything) - spaces.macs(live))
        with torch.no_grad():
            expected = network_now(X)
            torch.testing.assert_close(small(X), expected, atol=1e-5 * float(expected.abs().max()), rtol=0)


def test_what_a_channel_costs_is_what_goes_with_it() -> None:
    network = attached(Depthwise())
    spaces = find_spaces(network, X)
    live = np.ones(spaces.count, bool)
    for channel, cost in enumerate(spaces.marginal_cost(live)):
        alone = live.copy()
        alone[channel] = False
        # All but a product of two of its shares, where one layer makes it and reads it.
        assert spaces.macs(live) - spaces.macs(alone) == pytest.approx(cost)


def test_a_residual_sum_ties_what_it_adds() -> None:
    spaces = find_spaces(attached(Residual()), X)
    assert spaces.names == ("first", "middle")
    assert np.bincount(spaces.space).tolist() == [12, 10]
    assert set(spaces.readers) == {"first.weight", "middle.weight", "last.weight", "fc.weight"}
    assert (spaces.readers["first.weight"] == NONE).all()  # the image's
    np.testing.assert_array_equal(spaces.readers["middle.weight"], spaces.readers["fc.weight"])


def test_a_module_that_pads_ties_channels_to_their_places() -> None:
    spaces = find_spaces(attached(Padded()), X)
    assert spaces.names == ("first", "one", "other")
    assert np.bincount(spaces.space).tolist() == [8, 16, 8]  # new channels of the sum are its own
    made = {layer.name: layer.outputs for layer in spaces.layers}
    np.testing.assert_array_equal(made["other.weight"][3:11], made["first.weight"])
    by_numbers = find_spaces(attached(Padded(by_numbers=True)), X)
    assert by_numbers.names == ("one",)  # what forward pads by numbers stays


def test_a_module_that_pads_shrinks_along() -> None:
    network = attached(Padded())
    spaces = find_spaces(network, X)
    live = np.ones(spaces.count, bool)
    made = {layer.name: layer.outputs for layer in spaces.layers}["other.weight"]
    live[made[[0, 4, 5, 14, 15]]] = False  # one in front, two in the middle, two behind
    small, report = shrink(killed(network, spaces, live), X, fold_constants=False)
    assert small.pad.padding == (0, 0, 0, 0, 2, 3)  # type: ignore[union-attr]
    assert network.pad.padding == (0, 0, 0, 0, 3, 5)  # type: ignore[union-attr]
    assert report.removed == 2 + 5  # of first and of other


def test_resnet20_loses_channels_everywhere() -> None:
    spaces = find_spaces(attached(models.resnet20(input_size=8)), X)
    assert spaces.sizes.sum() == 16 + 16 + 32 + 3 * (16 + 32 + 64)
    assert all((layer.outputs != NONE).all() for layer in spaces.layers if layer.name != "fc.weight")


def test_a_concatenation_keeps_its_parts_apart() -> None:
    spaces = find_spaces(attached(Joined()), X)
    sizes = dict(zip(spaces.names, np.bincount(spaces.space).tolist(), strict=True))
    assert sizes == {"down": 8, "deep": 12, "up": 8, "both": 6}


def test_a_depthwise_pair_is_one_space_and_a_group_one_channel() -> None:
    spaces = find_spaces(attached(Depthwise()), X)
    sizes = dict(zip(spaces.names, np.bincount(spaces.space).tolist(), strict=True))
    assert sizes == {"expand": 16, "project": 4}


def test_attention_keeps_its_heads_and_gives_hidden_units() -> None:
    assert find_spaces(attached(Attention()), X).names == ("up",)


def test_what_a_float_layer_reads_stays() -> None:
    spaces = find_spaces(attached(Residual(), exclude="fc"), X)
    assert spaces.names == ("middle",)


def test_a_size_in_forward_keeps_what_it_counts() -> None:
    class Counted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 3)
            self.fc = nn.Linear(4 * 6 * 6, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.last(F.relu(self.first(x))).reshape(-1, 4 * 6 * 6))

    spaces = find_spaces(attached(Counted()), X)
    assert spaces.names == ("first",)


class Shared(nn.Module):
    """Two layers of one weight, whose channels are therefore those in front of, between and behind them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 16, 3, padding=1), nn.Linear(16, 5)
        self.one, self.two = nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.two.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.two(F.relu(self.one(F.relu(self.first(x))))))
        result: Tensor = self.last(x.mean((2, 3)))
        return result


def test_a_shared_weight_costs_what_all_its_layers_do() -> None:
    network = attached(Shared())
    spaces = find_spaces(network, X)
    assert spaces.names == ("first",)
    everything = np.ones(spaces.count, bool)
    assert spaces.macs(everything) == codeq.summary(network, inputs=X).macs == 64 * (27 * 16 + 2 * 9 * 16 * 16) + 80
    live = everything.copy()
    live[::2] = False
    small = shrink(killed(network, spaces, live), X, fold_constants=False).model
    assert codeq.summary(small, inputs=X).macs == spaces.macs(live) == 64 * (27 * 8 + 2 * 9 * 8 * 8) + 40


def test_a_layer_of_zeros_has_channels_like_any_other() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 64, 5))
    nn.init.zeros_(network[3].weight)  # type: ignore[arg-type]
    codeq.attach(network, 8, channels=True)
    assert find_spaces(network, X).count == 8


def test_what_cannot_be_counted_may_not_go(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("codeq.channels.spaces._agrees", lambda *arguments: False)
    assert find_spaces(attached(Residual()), X).count == 0
    assert "channels of Residual cannot be counted as they would be taken out" in caplog.text


@pytest.mark.parametrize("name", ["resnet8", "ds_cnn"])
def test_networks_of_the_registry(name: str) -> None:
    shape = {"resnet8": (1, 8, 8), "ds_cnn": (1, 49, 10)}[name]
    network = models.create(name, **models.arguments_for(name, shape, 10))
    codeq.attach(network, 8, channels=True)
    spaces = find_spaces(network, torch.randn(2, *shape))
    assert spaces.macs(np.ones(spaces.count, bool)) == codeq.summary(network, shape).macs
