"""Channels are pairs where layers alone read them, in the traced graph; whatever else reads them stops it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codeq.compress.pairs import Found, find_pairs
from codeq.graph.trace import trace


class Net(nn.Module):
    """Has three layers, a norm and a forward pass that is given."""

    def __init__(self, forward: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two, self.three = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4 * 25, 3)
        self.pooled = nn.Linear(4, 3)
        self.run = forward

    def forward(self, x: Tensor) -> Any:
        return self.run(self, x)


def found(model: nn.Module, *shape: int) -> Found:
    x = torch.randn(2, *(shape or (4, 5, 5)))
    return find_pairs(trace(model.eval(), (x,)), (x,))


def pairs(forward: Callable[[Any, Tensor], Any]) -> dict[str, list[str]]:
    return {pair.name: [reader.weight for reader in pair.readers] for pair in found(Net(forward)).pairs}


PAIRS: dict[str, tuple[Callable[[Any, Tensor], Any], dict[str, list[str]]]] = {
    "relu": (lambda m, x: m.two(m.one(x).relu()), {"one.weight": ["two.weight"]}),
    "nothing": (lambda m, x: m.two(m.one(x)), {"one.weight": ["two.weight"]}),
    "leaky relu": (lambda m, x: m.two(F.leaky_relu(m.one(x))), {"one.weight": ["two.weight"]}),
    "clamp at 0": (lambda m, x: m.two(m.one(x).clamp(min=0)), {"one.weight": ["two.weight"]}),
    "BatchNorm": (lambda m, x: m.two(m.norm(m.one(x)).relu()), {"norm.weight": ["two.weight"]}),
    "chain": (
        lambda m, x: m.three(m.two(m.one(x).relu()).relu()),
        {"one.weight": ["two.weight"], "two.weight": ["three.weight"]},
    ),
    "two readers": (
        lambda m, x: (lambda h: m.two(h) + m.three(h))(m.one(x).relu()),
        {"one.weight": ["two.weight", "three.weight"]},
    ),
    "residual beside": (lambda m, x: x + m.two(m.one(x).relu()), {"one.weight": ["two.weight"]}),
    "pooled": (
        lambda m, x: m.pooled(F.adaptive_avg_pool2d(F.max_pool2d(m.one(x).relu(), 3, padding=1), 1).flatten(1)),
        {"one.weight": ["pooled.weight"]},
    ),
    "mean": (lambda m, x: m.pooled(m.one(x).mean((2, 3))), {"one.weight": ["pooled.weight"]}),
    "padded": (lambda m, x: m.two(F.pad(m.one(x).relu(), (1, 0, 1, 0))), {"one.weight": ["two.weight"]}),
    "moved": (
        lambda m, x: m.pooled(m.one(x).relu().flatten(2).transpose(1, 2)).flatten(1),
        {"one.weight": ["pooled.weight"]},
    ),
    "residual": (lambda m, x: (lambda h: h + m.two(h))(m.one(x).relu()), {}),
    "concatenation": (lambda m, x: (lambda h: torch.cat([h, m.two(h)], 1))(m.one(x).relu()), {}),
    "output": (lambda m, x: (lambda h: (h, m.two(h)))(m.one(x).relu()), {}),
    "relu6": (lambda m, x: m.two(F.relu6(m.one(x))), {}),
    "gelu": (lambda m, x: m.two(F.gelu(m.one(x))), {}),
    "shifted": (lambda m, x: m.two((m.one(x) + 1).relu()), {}),
    "used twice": (lambda m, x: m.two(m.two(m.one(x).relu()).relu()), {}),
    "read elsewhere": (lambda m, x: m.two(m.one(x).relu()) + m.two.weight.sum(), {}),
    "made elsewhere": (lambda m, x: m.two(m.one(x).relu()) + m.one.bias.sum(), {}),
    "mixed": (lambda m, x: m.two(m.one(x).transpose(1, 2)[:, :4]), {}),
    "maximum over channels": (lambda m, x: m.two(m.one(x).amax(1, keepdim=True).expand(-1, 4, -1, -1)), {}),
    "channel of ones": (lambda m, x: m.two(F.pad(m.one(x)[:, :3], (0, 0, 0, 0, 0, 1), value=1.0)), {}),
    "padded with ones": (lambda m, x: m.two(F.pad(m.one(x).relu(), (1, 0, 1, 0), value=1.0)), {}),
}


@pytest.mark.slow("some twenty networks are traced")
@pytest.mark.parametrize("name", PAIRS)
def test_what_is_a_pair(name: str) -> None:
    forward, wanted = PAIRS[name]
    assert pairs(forward) == wanted


def test_columns_are_followed_through_what_moves_channels() -> None:
    (flat,) = found(Net(lambda m, x: m.fc(m.one(x).relu().flatten(1)))).pairs
    assert torch.equal(flat.readers[0].columns, torch.arange(4).repeat_interleave(25))
    shuffle = Net(lambda m, x: m.two(m.one(x).relu().unflatten(1, (2, 2)).transpose(1, 2).flatten(1, 2)))
    (shuffled,) = found(shuffle).pairs
    assert shuffled.readers[0].columns.tolist() == [0, 2, 1, 3]


def test_sizes_that_forward_writes_out_are_followed() -> None:
    found = pairs(lambda m, x: m.fc(m.one(x).relu().view(x.shape[0], 4 * 25)))
    assert found == {"one.weight": ["fc.weight"]}


def test_channels_that_something_else_reads_stay() -> None:
    (part,) = found(Net(lambda m, x: (lambda h: (m.two(h), h[:, :1]))(m.one(x).relu()))).pairs
    assert part.free.tolist() == [False, True, True, True]
    assert part.stopped_by == ("output",)


def test_weights_with_two_names_or_shared_memory_stay() -> None:
    model = Net(lambda m, x: m.three(m.two(m.one(x).relu()).relu()))
    model.three.weight = model.two.weight
    assert found(model).pairs == ()
    viewed = Net(lambda m, x: m.two(m.one(x).relu()))
    viewed.two.weight = nn.Parameter(viewed.one.weight.detach().view(4, 4, 3, 3))
    assert viewed.two.weight.data_ptr() == viewed.one.weight.data_ptr()
    assert found(viewed).pairs == ()


class Attention(nn.Module):
    """Is what a transformer's block has: one norm read by three layers, values that attention weighs."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.q, self.k, self.v, self.out = (nn.Linear(8, 8) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (layer(h).unflatten(-1, (2, 4)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        result: Tensor = x + self.out(mixed)
        return result


def test_attention() -> None:
    by_name = {pair.name: pair for pair in found(Attention(), 5, 8).pairs}
    assert {name: [reader.weight for reader in pair.readers] for name, pair in by_name.items()} == {
        "norm.weight": ["q.weight", "k.weight", "v.weight"],
        "v.weight": ["out.weight"],
    }


def test_a_layer_in_front_of_a_batch_norm() -> None:
    result = found(Net(lambda m, x: m.two(m.norm(m.one(x)).relu())))
    (front,) = result.fronts
    assert (front.weight, front.bias, front.norm, front.mean) == (
        "one.weight",
        "one.bias",
        "norm.weight",
        "norm.running_mean",
    )
    assert result.pairs[0].front == front
    assert result.pairs[0].only_relu
