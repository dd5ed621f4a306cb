"""Whatever goes, the outputs stay: in float, per channel and per tensor, in every kind of network."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import codeq
from codeq.channels.shrink import shrink
from codeq.channels.spaces import find_spaces
from tests.codeq.channels.networks import NETWORKS, Attention, Depthwise, Heads, Residual, network_with_dead_channels

SEEDS = range(6)


def outputs(network: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        result: Tensor = network(x)
    return result


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("fold", [True, False])
def test_outputs_stay(kind: Callable[[], nn.Module], seed: int, fold: bool) -> None:
    network, x = network_with_dead_channels(kind, seed)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    small, report = shrink(network, x[:3], fold_constants=fold)
    expected = outputs(network, x)
    assert torch.allclose(outputs(small, x), expected, atol=1e-6 * float(expected.abs().max()), rtol=0)
    assert report.changed
    assert report.macs[1] < report.macs[0]
    assert report.parameters[1] == sum(parameter.numel() for parameter in small.parameters())
    assert type(small) is type(network)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    again, nothing = shrink(small, x[:3], fold_constants=fold)
    assert not nothing.changed
    assert again is small


@pytest.mark.parametrize("granularity", ["tensor", "channel"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_codes_are_those_of_the_network(kind: Callable[[], nn.Module], granularity: str) -> None:
    network, x = network_with_dead_channels(kind, 3)
    codeq.attach(network, 4, granularity=granularity)
    small, report = shrink(network, x, fold_constants=False)
    assert report.changed
    assert torch.equal(outputs(small, x), outputs(copy.deepcopy(small), x))
    assert torch.allclose(outputs(small, x), outputs(network, x), atol=1e-5, rtol=0)
    before, after = codeq.encode(network), codeq.encode(small)
    assert before.keys() == after.keys()
    for name, encoding in after.items():
        whole = before[name]
        live = whole.codes.float() * (whole.scale if whole.scale.ndim == 0 else whole.scale.reshape(_form(whole)))
        left = encoding.codes.float() * (
            encoding.scale if encoding.scale.ndim == 0 else encoding.scale.reshape(_form(encoding))
        )
        wanted, found = (values[values != 0].double() for values in (live, left))
        assert set(found.tolist()) <= set(wanted.tolist()), name
        assert (encoding.bit_width, encoding.multiplier) == (whole.bit_width, whole.multiplier)


def _form(encoding: codeq.WeightEncoding) -> list[int]:
    return [-1 if axis == encoding.axis else 1 for axis in range(encoding.codes.ndim)]


def test_a_head_goes_as_a_whole() -> None:
    torch.manual_seed(0)
    network, x = Heads().eval(), torch.randn(3, 3, 8, 8)
    with torch.no_grad():
        network.project.weight[:, 8:16] = 0.0
        network.project.weight[:, 3] = 0.0  # a part of another
    small, report = shrink(network, x)
    assert torch.allclose(outputs(small, x), outputs(network, x), atol=1e-6)
    assert report.removed == 3 * 8
    assert small.qkv.weight.shape == (48, 24)  # type: ignore[union-attr]
    kept = [index for index in range(72) if index // 8 % 3 != 1]
    assert torch.equal(small.qkv.weight, network.qkv.weight[kept])  # type: ignore[union-attr]


def test_heads_that_forward_has_as_a_number_stay() -> None:
    torch.manual_seed(0)
    network, x = Attention().eval(), torch.randn(3, 3, 8, 8)
    with torch.no_grad():
        network.project.weight[:, 8:16] = 0.0
        network.down.weight[:, :5] = 0.0
    small, report = shrink(network, x)
    assert torch.allclose(outputs(small, x), outputs(network, x), atol=1e-6)
    assert report.removed == 5  # hidden units, which no number holds
    assert small.qkv.weight.shape == network.qkv.weight.shape  # type: ignore[union-attr]


class Tokens(nn.Module):
    """Attention in several spellings, four heads of 4, of which the second and third are read by nothing."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kind, self.heads = kind, 4
        self.qkv = nn.Linear(6, 48)
        self.project = nn.Linear(16, 5)
        nn.init.zeros_(self.project.weight[:, 4:12])

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, _ = x.shape
        if self.kind == "batch of -1":  # which swallows heads that are missing
            heads = self.qkv(x).reshape(-1, tokens, 3, 4, 4)
        else:
            heads = self.qkv(x).unflatten(-1, (3, -1, 4))
        q, k, v = heads.permute(2, 0, 3, 1, 4).unbind(0)
        if self.kind == "shared":
            q, v = k, k
        y = F.scaled_dot_product_attention(q, k, v)
        if self.kind == "asserts":
            assert y.shape[1] == self.heads
        return self.project(y.transpose(1, 2).reshape(n, tokens, -1))


@pytest.mark.parametrize(("kind", "left"), [("parts", 24), ("shared", 24), ("batch of -1", 48), ("asserts", 48)])
def test_heads_go_where_forward_allows_it(kind: str, left: int) -> None:
    network, x = Tokens(kind).eval(), torch.randn(2, 3, 6)
    small = shrink(network, x).model
    assert torch.allclose(outputs(small, x), outputs(network, x), atol=1e-6)
    assert small.qkv.weight.shape[0] == left  # type: ignore[union-attr]
    codeq.attach(network, 8, channels=True)
    assert find_spaces(network, x).count == (0 if left == 48 else 4)


def test_a_network_without_dead_channels_is_itself() -> None:
    torch.manual_seed(0)
    network = Residual().eval()
    small, report = shrink(network, torch.randn(2, 3, 8, 8))
    assert small is network
    assert not report.changed
    assert report.line == ""


def test_the_smaller_network_trains() -> None:
    network, x = network_with_dead_channels(Residual, 1)
    codeq.attach(network, 4)
    small, _ = shrink(network, x)
    small.train()
    small(x).square().mean().backward()
    gradients = [parameter.grad for parameter in small.parameters() if parameter.requires_grad]
    assert any(gradient is not None and bool(gradient.abs().sum() > 0) for gradient in gradients)


def test_a_branch_of_a_sum_keeps_what_another_has() -> None:
    network, x = network_with_dead_channels(Residual, 2)
    with torch.no_grad():
        network.first.weight[4] = 0.0  # type: ignore[union-attr,index,operator]
        network.last.weight[4] = 1.0  # type: ignore[union-attr,index,operator]
        network.fc.weight[:, 4] = 1.0  # type: ignore[union-attr,index,operator]
    small, _ = shrink(network, x)
    assert small.first.out_channels == small.last.out_channels == small.fc.in_features  # type: ignore[union-attr]
    assert torch.allclose(outputs(small, x), outputs(network, x), atol=1e-5)


def test_a_constant_beside_padding_stays() -> None:
    """Zeros of the padding are not the constant: the border would be wrong."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=1)).eval()
    with torch.no_grad():
        network[0].weight[:2] = 0.0  # type: ignore[index,operator]
        network[0].bias[:] = torch.tensor([0.7, -0.7, 0.1, 0.1])  # type: ignore[index,operator]
    x = torch.randn(2, 1, 6, 6)
    small, report = shrink(network, x)
    assert small[0].out_channels == 3  # type: ignore[index]  # the negative one is 0 behind the ReLU
    assert report.layers[0].why == "1: a constant that is not 0"
    assert torch.allclose(outputs(small, x), outputs(network, x), atol=1e-6)
    unpadded = copy.deepcopy(network)
    unpadded[2].padding = (0, 0)
    folded, _ = shrink(unpadded, x)
    assert folded[0].out_channels == 2  # type: ignore[index]
    assert torch.allclose(outputs(folded, x), outputs(unpadded, x), atol=1e-6)
    kept, _ = shrink(unpadded, x, fold_constants=False)
    assert kept[0].out_channels == 3  # type: ignore[index]


def test_constants_that_groups_read() -> None:
    """What a depthwise convolution without padding makes of a constant is one, too, but not one that is folded yet."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.ReLU(), nn.Conv2d(8, 4, 1)]
    network = nn.Sequential(*layers).eval()
    with torch.no_grad():
        network[0].weight[:5] = 0.0  # type: ignore[index,operator]
        network[0].bias[:5] = torch.tensor([0.5, -0.5, 0.0, 0.2, -0.1])  # type: ignore[index,operator]
        network[2].weight[5:7] = 0.0  # type: ignore[index,operator]
        network[4].weight[:, 7] = 0.0  # type: ignore[index,operator]
    x = torch.randn(2, 1, 6, 6)
    for fold in (True, False):
        small, report = shrink(network, x, fold_constants=fold)
        assert report.changed
        assert torch.allclose(outputs(small, x), outputs(network, x), atol=1e-6)


def test_groups_go_whole() -> None:
    network, x = network_with_dead_channels(Depthwise, 0)
    with torch.no_grad():
        network.project.weight[2:4] = 0.0  # type: ignore[union-attr,index,operator]
        network.project.bias[2:4] = 0.0  # type: ignore[union-attr,index,operator]
        network.grouped.weight[4:8] = 0.0  # type: ignore[union-attr,index,operator]
        network.grouped.bias[4:8] = 0.0  # type: ignore[union-attr,index,operator]
    small, _ = shrink(network, x)
    assert small.grouped.groups < 4  # type: ignore[operator,union-attr]
    assert small.each.groups == small.each.out_channels < 16  # type: ignore[union-attr]
    assert torch.allclose(outputs(small, x), outputs(network, x), atol=1e-5)


def test_attention_keeps_its_heads_and_loses_hidden_units() -> None:
    network, x = network_with_dead_channels(Attention, 0)
    small, _ = shrink(network, x)
    assert small.qkv.out_features == 48  # type: ignore[union-attr]
    assert small.up.out_features == small.down.in_features < 24  # type: ignore[operator,union-attr]


class Fixed(nn.Module):
    """A size that forward has as a number."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3)
        self.last = nn.Linear(8 * 16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.first(x)).view(-1, 128))


def test_a_size_in_the_code_stays() -> None:
    torch.manual_seed(0)
    network = Fixed().eval()
    with torch.no_grad():
        network.first.weight[3] = 0.0
        network.first.bias[3] = 0.0
    x = torch.randn(2, 1, 6, 6)
    small, report = shrink(network, x)
    assert small is network
    assert not report.changed
    assert report.line == "none removed, 1 dead one stays"


def test_what_cannot_be_traced_is_left_alone() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x) if float(x.sum()) > 0 else x

    network = Branching().eval()
    with torch.no_grad():
        network.layer.weight[1] = 0.0
    small, report = shrink(network, torch.ones(2, 4))
    assert small is network
    assert "cannot be traced" in str(report)


def test_shared_weights_are_cut_once() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter = nn.Linear(4, 8)
            self.one = nn.Linear(8, 8)
            self.other = nn.Linear(8, 8)
            self.other.weight = self.one.weight
            self.leave = nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.leave(F.relu(self.other(F.relu(self.one(F.relu(self.enter(x)))))))

    torch.manual_seed(0)
    network = Twice().eval()
    with torch.no_grad():
        network.one.weight[2:4] = 0.0
        network.one.weight[:, 2:4] = 0.0
        network.one.bias[2:4] = 0.0
        network.other.bias[2:4] = 0.0
    x = torch.randn(3, 4)
    small, _ = shrink(network, x)
    assert small.one.weight is small.other.weight
    assert small.one.out_features == 6
    assert torch.allclose(outputs(small, x), outputs(network, x), atol=1e-6)


def test_parts_of_a_split_keep_their_place() -> None:
    class Split(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.both = nn.Linear(4, 8)
            self.one = nn.Linear(4, 2)
            self.other = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            first, second = self.both(x).split([4, 4], dim=1)
            return self.one(first) + self.other(second)

    torch.manual_seed(0)
    network = Split().eval()
    with torch.no_grad():
        network.one.weight[:, 1] = 0.0
    x = torch.randn(3, 4)
    small, _ = shrink(network, x)
    assert small.both.out_features == 8
    assert torch.equal(outputs(small, x), outputs(network, x))
