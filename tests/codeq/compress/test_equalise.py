"""Factors follow their closed form, and no bit of what a network answers changes."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codeq.compress.equalise import (
    SETTLED,
    Equalised,
    apply,
    by_weights,
    equalise,
    factors,
    made_range,
    power_of_two,
    read_range,
    weights_of,
)
from codeq.compress.pairs import find_pairs
from codeq.graph.trace import trace


def run(model: nn.Module, x: Tensor, **options: str | bool) -> Equalised:
    return equalise(trace(model.eval(), (x,)), [(part,) for part in x.split(4)], **options)  # type: ignore[arg-type]


def answer(model: nn.Module, x: Tensor, found: Equalised) -> Tensor:
    with torch.no_grad():
        result: Tensor = torch.func.functional_call(model, dict(found.tensors), (x,))
    return result


@pytest.mark.quick
@pytest.mark.parametrize(
    ("made", "read", "wanted"),
    [(4.0, 1.0, 2.0), (1.0, 16.0, 0.25), (3.0, 3.0, 1.0), (0.0, 2.0, 1.0), (2.0, 0.0, 1.0)],
    ids=["large", "small", "equal", "made by zeros", "read by zeros"],
)
def test_factors_by_hand(made: float, read: float, wanted: float) -> None:
    (found,) = factors(torch.tensor([made]), torch.tensor([read])).tolist()
    assert found == wanted
    if made and read:
        assert found == math.sqrt(made * read) / read
        assert made / found == read * found


@pytest.mark.quick
def test_powers_of_two_are_the_nearest_by_logarithm() -> None:
    values = torch.tensor([1.0, 1.41, 1.42, 3.0, 0.7, 0.72, 2.0**-20])
    assert power_of_two(values).tolist() == [1.0, 1.0, 2.0, 4.0, 0.5, 1.0, 2.0**-20]


def test_two_layers_by_hand() -> None:
    model = nn.Sequential(nn.Linear(1, 3), nn.ReLU(), nn.Linear(3, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[16.0], [1.0], [0.0]]))
        model[0].bias.copy_(torch.tensor([4.0, 2.0, 1.0]))
        model[2].weight.copy_(torch.tensor([[1.0, 64.0, 1.0]]))
    found = run(model, torch.randn(8, 1))
    assert found.factors["0.weight"].tolist() == [4.0, 0.125, 1.0]
    assert found.tensors["0.weight"].tolist() == [[4.0], [8.0], [0.0]]
    assert found.tensors["0.bias"].tolist() == [1.0, 16.0, 1.0]
    assert found.tensors["2.weight"].tolist() == [[4.0, 8.0, 1.0]]


def test_by_activations_the_largest_channel_stays_and_small_ones_grow() -> None:
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(3))
        model[1].weight.copy_(torch.tensor([[1.0, 1.0, 1.0]]))
    x = torch.tensor([[16.0, 1.0, 0.0], [-8.0, 0.5, 0.0]])
    found = run(model, x, by="activations")
    assert found.factors["0.weight"].tolist() == [1.0, 0.25, 1.0]  # sqrt(1 / 16); what is never seen stays
    assert found.tensors["0.weight"].diagonal().tolist() == [1.0, 4.0, 1.0]


def test_chains_end_where_every_channel_is_made_and_read_alike() -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(6, 6, bias=False) for _ in range(4)]
    with torch.no_grad():
        for layer in layers:
            layer.weight.mul_(torch.logspace(-2, 2, 6))
    x = torch.randn(8, 6)
    exported = trace(nn.Sequential(*layers), (x,))
    found = find_pairs(exported, (x,))
    values = weights_of(found, exported)

    def furthest() -> float:
        ratios = [made_range(pair, values) / read_range(pair, values) for pair in found.pairs]
        return float(torch.stack(ratios).log2().abs().max())

    assert furthest() > 5
    for pair, factor in zip(found.pairs, by_weights(found, values), strict=True):
        apply(pair, values, factor)
    assert furthest() < 3 * SETTLED


class Everything(nn.Module):
    """Has layers of every kind, BatchNorms with negative weights, and a sum whose parts stay."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.norm2 = nn.BatchNorm2d(8)
        self.point = nn.Conv2d(8, 12, 1)
        self.slope = nn.PReLU(12)
        self.up = nn.ConvTranspose2d(12, 8, 2, stride=2, groups=2)
        self.one, self.two = nn.Conv2d(8, 16, 1, groups=4), nn.Conv2d(16, 8, 3, padding=1)
        self.fc, self.norm3, self.head = nn.Linear(8, 20), nn.LayerNorm(20), nn.Linear(20, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm2(self.depthwise(self.norm(self.first(x)).relu())).relu()
        x = self.up(self.slope(self.point(x)))
        x = x + self.two(F.leaky_relu(self.one(x)))
        result: Tensor = self.head(self.norm3(self.fc(F.avg_pool2d(x, 2).mean((2, 3)))))
        return result


def everything(seed: int) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(seed)
    model, x = Everything(), torch.randn(12, 3, 6, 6)
    with torch.no_grad():
        for tensor in model.parameters():  # channels that differ a thousandfold
            tensor.mul_(torch.exp2(5 * torch.randn(len(tensor), *[1] * (tensor.ndim - 1))))
        for _ in range(5):
            model.train()(x)
    return model.eval(), x


@pytest.mark.slow("networks of many layers are traced")
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("by", ["weights", "activations"])
def test_no_bit_of_the_answer_changes(by: str, seed: int) -> None:
    model, x = everything(seed)
    found = run(model, x, by=by, rows=True)
    assert set(found.factors) == {
        "norm.weight", "norm2.weight", "point.weight", "one.weight", "norm3.weight",
    }  # fmt: skip
    assert all(bool((factor != 1).any()) for factor in found.factors.values())
    with torch.no_grad():
        assert torch.equal(answer(model, x, found), model(x))


def test_rows_in_front_of_a_batch_norm_get_one_range() -> None:
    model, x = everything(0)
    found = run(model, x, by="none", rows=True)
    for name in ("first", "depthwise"):
        ratio = found.tensors[f"{name}.weight"].flatten(1).abs().amax(1).log2()
        assert float(ratio.max() - ratio.min()) <= 1 + 1e-6
        before = model.get_parameter(f"{name}.weight").detach().flatten(1).abs().amax(1).log2()
        assert float(before.max() - before.min()) > 3
    with torch.no_grad():
        assert torch.equal(answer(model, x, found), model(x))


def test_high_biases_are_absorbed_where_the_relu_hardly_cuts() -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)]
    model, x = nn.Sequential(*layers), torch.randn(64, 2, 6, 6)
    model.train()(x)
    for _ in range(60):
        model(x)
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([1.0, -0.5, 1.0]))
        model[1].bias.copy_(torch.tensor([5.0, 4.0, 1.0]))
    model.eval()
    found = run(model, x, by="none", absorb=True)
    assert found.absorbed == 2
    assert found.tensors["1.bias"].tolist() == [3.0, 1.5, 1.0]  # three deviations are left
    gained = model[3].weight.detach()[:, :, 0, 0] @ torch.tensor([2.0, 2.5, 0.0])
    assert torch.allclose(found.tensors["3.bias"], model[3].bias.detach() + gained, atol=1e-6)
    with torch.no_grad():
        wanted = model(x)
        assert float((answer(model, x, found) - wanted).abs().max()) < 0.2 * float(wanted.abs().max())
        assert float((answer(model, x, found) - wanted).square().mean() / wanted.square().mean()) < 1e-4


@pytest.mark.parametrize("padding", [0, 1])
def test_what_sees_zeros_around_its_input_absorbs_nothing(padding: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 3, padding=padding)).eval()
    with torch.no_grad():
        model[1].bias.fill_(5.0)
    assert run(model, torch.randn(4, 2, 6, 6), by="none", absorb=True).absorbed == (0 if padding else 3)
