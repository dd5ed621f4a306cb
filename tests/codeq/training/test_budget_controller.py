"""What the controller of a budget counts, where it lands, what it refuses."""

import math

import pytest
import torch
from torch import nn

import codeq
import models
from codeq.quantizer.attach import quantized_weights
from codeq.quantizer.choices import MIN_THETA
from codeq.training.budget import Budget, BudgetError
from codeq.training.budget_controller import BudgetController, _Layer

INPUT_SHAPE = (1, 16, 16)


def attached(bits: int | None = 4, theta: float = 3.0, **options: object) -> nn.Module:
    torch.manual_seed(0)
    model = models.resnet8(in_channels=1, input_size=16)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 4:
            nn.init.normal_(parameter, std=0.1 if "block1" in name else 0.05)
    codeq.attach(model, bits, **options)  # type: ignore[arg-type]
    for weight in quantized_weights(model):
        nn.init.constant_(weight.quantizer.theta_dz, theta)
    return model


def take_steps(steered: BudgetController, count: int) -> None:
    for _ in range(count):
        steered.step()


def controller(model: nn.Module, kind: str, target: float, steps: int = 400, **options: float) -> BudgetController:
    return BudgetController(model, Budget(kind, target), INPUT_SHAPE, steps, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["sparsity", "bops", "size"])
@pytest.mark.parametrize("bits", [2, 4, 8, None])
@pytest.mark.parametrize("grid", ["integer", "paper"])
def test_the_controller_counts_what_the_summary_says(kind: str, bits: int | None, grid: str) -> None:
    model = attached(bits, theta=0.6, grid=grid, exclude="fc")
    counted = controller(model, kind, {"bops": 0.03, "size": 8_000}.get(kind, 0.8))
    expected = counted.budget.of(codeq.summary(model, INPUT_SHAPE))
    assert counted._cost(counted._read(exact=True)) == pytest.approx(expected, rel=2e-3)
    assert counted._cost(counted._read()) == pytest.approx(expected, rel=0.03)


def mobile() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, padding=1),
        nn.Conv2d(16, 64, 1),
        nn.Conv2d(64, 64, 3, padding=1, groups=64),
        nn.Conv2d(64, 32, 1),
        nn.Conv2d(32, 32, 1, stride=2),
        nn.Conv2d(32, 32, 1, groups=4),
        nn.Flatten(),
        nn.Linear(32 * 16, 10),
    )


def test_zeros_go_into_1x1_convolutions_alone() -> None:
    model = mobile()
    codeq.attach(model, 4)
    steered = controller(model, "pointwise_sparsity", 0.6)
    take_steps(steered, 400)
    steered.finish()
    cost = codeq.summary(model, INPUT_SHAPE)
    assert cost.pointwise_sparsity == pytest.approx(0.6, abs=0.01)
    shares = {layer.name: layer.sparsity for layer in cost.layers}
    pointwise = {layer.name for layer in cost.layers if layer.is_pointwise}
    assert pointwise == {"1.weight", "3.weight"}  # of every pixel, without groups
    assert min(shares[name] for name in pointwise) > 0.5
    assert max(share for name, share in shares.items() if name not in pointwise) < 0.3
    assert all(bool(weight.quantizer.frozen) for weight in quantized_weights(model))
    with pytest.raises(BudgetError, match="no quantized 1x1 convolution to put zeros into; use --sparsity"):
        controller(attached(), "pointwise_sparsity", 0.8)


def test_a_shared_weight_counts_once() -> None:
    first, second = nn.Linear(16, 16), nn.Linear(16, 16)
    second.weight = first.weight
    model = nn.Sequential(first, second, nn.Linear(16, 4))
    codeq.attach(model)
    counted = BudgetController(model, Budget("bops", 0.1), (16,), 10)
    assert len(counted._weights) == 2
    cost = codeq.summary(model, (16,))
    assert counted._cost(counted._read(exact=True)) == pytest.approx(cost.relative_bops, rel=1e-3)


BUDGETS = [
    ("sparsity", 0.5, 4),
    ("sparsity", 0.9, 4),
    ("sparsity", 0.2, None),
    ("bops", 0.04, 4),
    ("bops", 0.02, None),
    ("size", 20_000, 4),
    ("size", 12_000, None),
]
SHOWN = [("sparsity", 0.2, None, 0.4), ("bops", 0.04, 4, 3.0)]


@pytest.mark.slow("two hundred steps of a controller")
@pytest.mark.parametrize(
    ("kind", "target", "bits", "theta"),
    [
        pytest.param(*budget, theta, marks=[] if (*budget, theta) in SHOWN else pytest.mark.full)
        for budget in BUDGETS
        for theta in (3.0, 0.4)
    ],
)
@pytest.mark.full
def test_weights_that_move_end_on_target(kind: str, target: float, bits: int | None, theta: float) -> None:
    model = attached(bits, theta)
    steered = controller(model, kind, target, steps=200)
    generator = torch.Generator().manual_seed(1)
    costs = []
    for step in range(200):
        with torch.no_grad():
            for weight in quantized_weights(model):
                # A task that pulls at every weight, and at theta against the budget.
                weight.original.add_(torch.randn(weight.original.shape, generator=generator), alpha=2e-4)
                weight.quantizer.theta_dz.mul_(1.002 if theta < 3 else 0.999)
        steered.step()
        if step > 180:
            costs.append(steered._cost(steered._read(exact=True)))
    # The way there is followed, not only the end put right.
    assert max(abs(cost - target) for cost in costs) < 0.1 * target + 0.01 * (kind == "sparsity")
    reached = steered.finish()
    cost = codeq.summary(model, INPUT_SHAPE)
    assert steered.budget.of(cost) == pytest.approx(reached, rel=2e-3)
    assert abs(reached - target) < steered.budget.margin / 2
    assert all(bool(weight.quantizer.frozen) for weight in quantized_weights(model))
    assert all(MIN_THETA <= abs(weight.quantizer.theta_dz) <= 4 for weight in quantized_weights(model))
    assert all(layer.sparsity < 0.995 for layer in cost.layers)


def test_the_plan_is_zhu_and_guptas() -> None:
    steered = controller(attached(), "sparsity", 0.9, steps=1000)
    start = steered._start
    assert steered._planned(0) == start
    assert steered._planned(400) == pytest.approx(0.9 + (start - 0.9) * 0.125)  # half of the ramp of 800 steps
    assert steered._planned(800) == steered._planned(1000) == 0.9


def test_a_sparsity_budget_leaves_bits_alone() -> None:
    model = attached(None)
    steered = controller(model, "sparsity", 0.8)
    for _ in range(100):
        steered.step()
    assert {weight.quantizer.bit_width() for weight in quantized_weights(model)} == {8}


def give_gradients(model: nn.Module, scales: dict[str, float] | None = None) -> None:
    generator = torch.Generator().manual_seed(2)
    for weight in quantized_weights(model):
        gradient = torch.randn(weight.original.shape, generator=generator)
        weight.original.grad = gradient * (scales or {}).get(weight.name, 1.0)


@pytest.mark.full
@pytest.mark.parametrize(("kind", "target"), [("bops", 0.02), ("size", 12_000)])
def test_bits_go_to_the_layers_whose_gradients_are_large(kind: str, target: float) -> None:
    model = attached(None)
    names = [weight.name for weight in quantized_weights(model)]
    steered = controller(model, kind, target)
    give_gradients(model, {names[2]: 100.0, names[5]: 0.01})
    take_steps(steered, 400)
    steered.finish()
    bits = {weight.name: weight.quantizer.bit_width() for weight in quantized_weights(model)}
    others = [bits[name] for name in names if name not in (names[2], names[5])]
    assert bits[names[5]] < min(others) <= max(others) < bits[names[2]]


@pytest.mark.slow("two hundred steps of a controller")
@pytest.mark.full
def test_bits_that_rise_go_to_the_layers_whose_gradients_are_large() -> None:
    model = attached(None, theta=0.4)
    names = [weight.name for weight in quantized_weights(model)]
    for weight in quantized_weights(model):
        assert weight.quantizer.theta_bit is not None
        nn.init.constant_(weight.quantizer.theta_bit, 0.3)  # 4 bits
    steered = controller(model, "bops", 0.08)
    give_gradients(model, {names[2]: 100.0, names[5]: 0.01})
    take_steps(steered, 400)
    bits = [weight.quantizer.bit_width() for weight in quantized_weights(model)]
    assert bits[5] < bits[4] < bits[2]


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_reading_of_overflown_gradients_is_left_out(value: float) -> None:
    model = attached(None)
    names = [weight.name for weight in quantized_weights(model)]
    steered = controller(model, "bops", 0.02)
    give_gradients(model, {names[2]: value})
    take_steps(steered, 1)
    assert steered._bit_speeds == [1.0] * 10
    give_gradients(model, {names[2]: 100.0})
    take_steps(steered, steered.interval)
    assert len(set(steered._bit_speeds)) == 10


def test_layers_without_a_gradient_leave_the_others_as_they_are() -> None:
    speeds = []
    for scale in (0.0, 1.0):
        model = attached(None)
        names = [weight.name for weight in quantized_weights(model)]
        steered = controller(model, "bops", 0.03)
        give_gradients(model, {names[2]: scale, names[7]: scale})
        take_steps(steered, 1)
        speeds.append(steered._bit_speeds)
    dead, alive = speeds
    assert dead[2] == dead[7] == 1
    ratios = [dead[number] / alive[number] for number in (0, 1, 3, 4, 5, 6, 8)]
    assert max(ratios) == pytest.approx(min(ratios))
    assert 0.5 < ratios[0] < 2


def test_grids_frozen_by_another_are_refused() -> None:
    model = attached()
    steered = controller(model, "sparsity", 0.8)
    steered.step()
    first = next(quantized_weights(model))
    first.quantizer.freeze(first.original)
    for call in (steered.step, steered.finish):
        with pytest.raises(BudgetError, match=r"conv1.weight is frozen already; a budget is met by finish\(\), once"):
            call()
    model = attached()
    steered = controller(model, "sparsity", 0.8)
    steered.finish()
    with pytest.raises(BudgetError, match="frozen already"):
        steered.finish()


def test_a_damaged_state_is_refused() -> None:
    steered = controller(attached(None), "bops", 0.03)
    with pytest.raises(ValueError, match="speeds of 0 layers, expected 10"):
        steered.load_state_dict(steered.state_dict() | {"bit_speeds": []})


def test_bits_that_have_no_steps_to_fall_in_are_refused_at_the_start() -> None:
    with pytest.raises(BudgetError, match="in 0 steps"):
        controller(attached(None), "bops", 0.002, steps=0)


def test_squared_gradients_are_smoothed() -> None:
    model = attached(None)
    steered = controller(model, "bops", 0.02)
    give_gradients(model)
    take_steps(steered, 1)
    before = steered.state_dict()["fisher"]
    for weight in quantized_weights(model):
        assert weight.original.grad is not None
        weight.original.grad.mul_(2)
    take_steps(steered, steered.interval)
    assert steered.state_dict()["fisher"] == pytest.approx([(0.9 + 0.1 * 4) * square for square in before])


def test_finish_moves_dead_zones_alone() -> None:
    model = attached(None)
    assert controller(model, "bops", 0.05).finish() == pytest.approx(0.05, abs=1e-3)
    assert codeq.summary(model, INPUT_SHAPE).relative_bops == pytest.approx(0.05, abs=1e-3)
    assert {weight.quantizer.bit_width() for weight in quantized_weights(model)} == {8}


@pytest.mark.full
def test_without_gradients_the_bits_of_all_layers_fall_alike() -> None:
    model = attached(None)
    steered = controller(model, "bops", 0.02)
    take_steps(steered, 400)
    assert len({weight.quantizer.bit_width() for weight in quantized_weights(model)}) == 1
    assert steered._bit_speeds == [1.0] * len(steered._weights)


def test_going_on_from_a_state_is_exact() -> None:
    whole, part = attached(None), attached(None)
    steered, first = controller(whole, "bops", 0.03), controller(part, "bops", 0.03)
    for model in (whole, part):
        give_gradients(model)
    for _ in range(20):
        steered.step()
    for _ in range(7):
        first.step()
    second = controller(part, "bops", 0.03)
    second.load_state_dict(first.state_dict())
    for _ in range(13):
        second.step()
    assert second.state_dict() == steered.state_dict()
    for one, other in zip(quantized_weights(whole), quantized_weights(part), strict=True):
        assert torch.equal(one.quantizer.theta_dz, other.quantizer.theta_dz)
        assert one.quantizer.theta_bit is not None
        assert other.quantizer.theta_bit is not None
        assert torch.equal(one.quantizer.theta_bit, other.quantizer.theta_bit)
    assert len(set(second.state_dict()["bit_speeds"])) > 1


@pytest.mark.parametrize(
    ("kind", "target", "bits", "message"),
    [
        ("bops", 0.2, 4, r"20.00% relative BOPs cannot be met .* between 0.13% .* and 12.50"),
        ("bops", 0.0001, 4, "cannot be met"),
        ("sparsity", 0.999, 4, r"99.9% zeros cannot be met .* 99.0% zeros can"),
        ("size", 500, 4, "500 B cannot be met"),
        ("size", 1e6, 4, "1.0 MB cannot be met"),
    ],
)
def test_what_no_grid_meets_is_refused_at_the_start(kind: str, target: float, bits: int, message: str) -> None:
    with pytest.raises(BudgetError, match=message):
        controller(attached(bits), kind, target)


def test_a_network_without_quantizers_is_refused() -> None:
    with pytest.raises(BudgetError, match="no quantized weight that a budget could steer; attach it first"):
        controller(models.resnet8(in_channels=1, input_size=16), "sparsity", 0.9)


def test_bits_that_cannot_fall_so_far_in_so_few_steps_are_refused_at_the_start() -> None:
    controller(attached(None), "bops", 0.0008, steps=100)
    with pytest.raises(BudgetError, match=r"0.08% relative BOPs cannot be met .* between 0.\d\d% .* in 4 steps"):
        controller(attached(None), "bops", 0.0008, steps=4)


def test_what_the_guard_will_not_let_happen_stops_the_run_half_way() -> None:
    # 97 % zeros need heavy tails, which Gaussian weights that stay as they are do not have.
    model = attached()
    steered = controller(model, "sparsity", 0.97, steps=400)
    with pytest.raises(BudgetError, match=r"out of reach after 200 of 400 steps: about 94\.\d% zeros is what"):
        take_steps(steered, 400)
    # No lower, so that thetas could return at once.
    for _ in range(2):
        steered.rate = 0.5
        steered.taken = 1  # no reading
        steered.step()
    assert [weight.quantizer.theta_dz.item() for weight in quantized_weights(model)] == [MIN_THETA] * 10


@pytest.mark.full
def test_a_start_that_is_too_sparse_comes_back() -> None:
    model = attached(theta=0.3)
    steered = controller(model, "sparsity", 0.4)
    assert steered._start > 0.9
    rates = []
    for _ in range(400):
        steered.step()
        rates.append(steered.rate)
    assert min(rates) < 0  # lambda was negative
    assert steered.finish() == pytest.approx(0.4, abs=0.01)


def test_a_layer_of_zeros_has_a_range() -> None:
    model = nn.Linear(8, 8)
    nn.init.zeros_(model.weight)
    codeq.attach(model)
    (weight,) = quantized_weights(model)
    layer = _Layer(weight, 64, exact=True)
    assert layer.reach(0.99) == 1
    grid = weight.quantizer.grid_at(layer.reach, 1.0, 4)
    assert layer.cost("sparsity", grid, 4) == 64
    assert layer.cost("size", grid, 4) == 0


def test_the_cost_is_held_while_weights_cross_frozen_borders() -> None:
    model = attached()
    steered = controller(model, "sparsity", 0.8, steps=100, hold_steps=100)
    costs = []
    for step in range(200):
        if step == 100:
            steered.finish()
        with torch.no_grad():
            for weight in quantized_weights(model):
                weight.original.mul_(0.998)  # weights shrink, as under decay, and fall into the dead zone
        steered.step()
        costs.append(codeq.summary(model, INPUT_SHAPE).sparsity if step % 10 == 9 and step > 100 else 0.8)
    assert 0.802 < max(costs) < 0.81
    assert all(bool(weight.quantizer.frozen) for weight in quantized_weights(model))
    assert not any(
        parameter.requires_grad for weight in quantized_weights(model) for parameter in weight.quantizer.parameters()
    )
