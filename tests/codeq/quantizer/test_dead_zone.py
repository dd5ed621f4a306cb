"""The operator against its closed form (codeq/quantizer/dead_zone.py's docstring), and its promises on odd tensors."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from codeq.quantizer.choices import MIN_THETA
from codeq.quantizer.dead_zone import DeadZoneQuantizer
from codeq.quantizer.fused import levels_of
from codeq.quantizer.grid import Grid
from codeq.quantizer.placement import TERNARY_THETA_INIT

pytestmark = pytest.mark.quick

SHAPES = [(64,), (16, 24), (8, 4, 3, 3), (5, 3, 7)]


def closed_form(w: np.ndarray, theta: float, bits: float) -> tuple[float, float, float, float]:
    """(half dead zone, step, shift, quant_max) in float64 from the paper's equations."""
    reach = np.quantile(np.abs(w), 0.99)
    half = reach * (1 - math.tanh(abs(theta)))
    quant_max = 2 ** (bits - 1) - 1
    step = (reach - half) / (quant_max - 0.5) + 1e-8
    return half, step, half - step / 2, quant_max


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("seed", [0, 1])
def test_paper_operator_agrees_with_the_closed_form(bits: int, sign: int, shape: tuple[int, ...], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    theta = sign * (0.3 + 2.5 * torch.rand((), generator=generator).item())
    weight = torch.randn(shape, generator=generator).requires_grad_()
    quantizer = DeadZoneQuantizer(bits, grid="paper", theta_init=theta)
    value = quantizer(weight)
    upstream = torch.randn(shape, generator=generator)
    value.backward(upstream)

    w = weight.detach().double().numpy()
    _, step, shift, quant_max = closed_form(w, theta, bits)
    u = np.sign(w) * np.maximum(np.abs(w) - shift, 0) / step
    k = np.clip(np.round(u), -quant_max, quant_max)
    # Where float32 and float64 may round a tie apart, the level is whichever the operator took.
    near_tie = np.abs(np.abs(u) % 1 - 0.5) < 1e-4
    taken = quantizer.encode(weight).levels.double().numpy()
    assert ((taken == k) | near_tie).all()
    assert near_tie.mean() < 0.05
    k = taken
    np.testing.assert_allclose(value.detach().numpy(), step * k + shift * np.sign(k), rtol=2e-6, atol=2e-6)

    assert weight.grad is not None
    assert torch.equal(weight.grad, upstream)
    slope = -(k - u) / (2 * quant_max - 1) + 0.5 * (np.sign(k) - np.sign(w)) * (1 + 1 / (2 * quant_max - 1))
    reach = np.quantile(np.abs(w), 0.99)
    d_theta = -2 * reach / math.cosh(theta) ** 2 * math.copysign(1, theta)
    terms = upstream.double().numpy() * slope * d_theta
    assert quantizer.theta_dz.grad is not None
    assert quantizer.theta_dz.grad.item() == pytest.approx(terms.sum(), rel=1e-4, abs=1e-5 * np.abs(terms).sum())


@pytest.mark.parametrize("theta_bit", [0.2, 0.9, -0.6, 2.0])
def test_learned_bits_agree_with_the_closed_form(theta_bit: float, rng: torch.Generator) -> None:
    weight = torch.randn(400, generator=rng)
    quantizer = DeadZoneQuantizer(None, grid="paper", theta_init=1.0)
    assert quantizer.theta_bit is not None
    with torch.no_grad():
        quantizer.theta_bit.fill_(theta_bit)
    learned = math.tanh(abs(theta_bit)) * 6 + 2
    bits = round(learned)
    assert quantizer.bit_width() == bits
    upstream = torch.randn(400, generator=rng)
    quantizer(weight).backward(upstream)

    w = weight.double().numpy()
    half, step, shift, quant_max = closed_form(w, 1.0, bits)
    u = np.sign(w) * np.maximum(np.abs(w) - shift, 0) / step
    k = quantizer.encode(weight).levels.double().numpy()
    d_step = (k - u) - 0.5 * (np.sign(k) - np.sign(w))  # the shift falls by half of what the step grows
    step_per_quant_max = -(np.quantile(np.abs(w), 0.99) - half) / (quant_max - 0.5) ** 2
    d_bits = math.log(2) * 2 ** (bits - 1) * 6 / math.cosh(theta_bit) ** 2 * math.copysign(1, theta_bit)
    expected = (upstream.double().numpy() * d_step).sum() * step_per_quant_max * d_bits
    assert quantizer.theta_bit.grad is not None
    assert quantizer.theta_bit.grad.item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("weight", "level"),
    [
        (0.0, 0),
        (3.5, 0),  # the border itself: (3.5 - 2.5) / 2 = 0.5 rounds half to even
        (3.51, 1),
        (-3.51, -1),
        (4.5, 1),
        (5.5, 2),  # 1.5 rounds to 2
        (6.5, 2),
        (7.5, 2),  # 2.5 rounds to 2
        (7.51, 3),
        (100.0, 3),
        (-100.0, -3),
    ],
)
def test_levels_by_hand(weight: float, level: int) -> None:
    # scale 0.5, multiplier 4, offset 5: step 2, shift 2.5, dead zone 2 * 2.5 + 2 = 7 wide.
    grid = Grid(0.5, 4, 5, 3, 0.0)
    levels, unrounded = levels_of(torch.tensor([weight]), grid)
    assert levels.tolist() == [level]
    assert unrounded.item() == pytest.approx(math.copysign(max(abs(weight) - 2.5, 0) / 2, weight))


@pytest.mark.parametrize("offset", [-1, 0, 3])
def test_zeros_have_no_sign(offset: int) -> None:
    # A small negative weight rounds to -0, which would not survive int8 and back bit for bit.
    grid = Grid(1.0, 4, offset, 3, 0.0)
    levels, _ = levels_of(torch.tensor([-0.0, -1e-3, -0.4]), grid)
    assert levels.tolist() == [0.0, 0.0, 0.0]
    assert not levels.signbit().any()


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_every_level_is_reached_and_decoded(bits: int) -> None:
    quantizer = DeadZoneQuantizer(bits, theta_init=0.8)
    weight = torch.linspace(-1, 1, 2001)
    encoding = quantizer.encode(weight)
    quant_max = 2 ** (bits - 1) - 1
    assert encoding.levels.unique().tolist() == list(range(-quant_max, quant_max + 1))
    expected = [encoding.multiplier * k + encoding.offset for k in range(1, quant_max + 1)]
    assert encoding.codes.unique().tolist() == [-code for code in expected[::-1]] + [0, *expected]


@given(
    shape=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    bits=st.one_of(st.none(), st.integers(2, 8)),
    grid=st.sampled_from(["integer", "paper"]),
    limit=st.sampled_from([127, 63]),
    theta=st.floats(-4, 4),
    theta_bit=st.floats(-3, 3),
    spread=st.sampled_from([1e-20, 1e-4, 1.0, 1e4, 1e20]),
    seed=st.integers(0, 2**31),
)
def test_encode_then_decode_is_forward_bit_for_bit(
    shape: list[int],
    bits: int | None,
    grid: str,
    limit: int,
    theta: float,
    theta_bit: float,
    spread: float,
    seed: int,
) -> None:
    quantizer = DeadZoneQuantizer(bits, grid=grid, grid_limit=limit, theta_init=theta)  # type: ignore[arg-type]
    if quantizer.theta_bit is not None:
        with torch.no_grad():
            quantizer.theta_bit.fill_(theta_bit)
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * spread
    value = quantizer(weight).detach()
    encoding = quantizer.encode(weight)
    assert bits_of(encoding.dequantize()) == bits_of(value)
    assert encoding.codes.abs().max() <= encoding.top_code <= (limit if grid == "integer" else 127)
    assert torch.equal(encoding.levels.sign(), encoding.codes.sign())
    if grid == "integer":
        assert bits_of(encoding.codes.float() * encoding.scale) == bits_of(value)
    quantizer.freeze(weight)
    assert bits_of(quantizer(weight).detach()) == bits_of(value)


def bits_of(tensor: Tensor) -> bytes:
    return tensor.numpy().tobytes()


@pytest.mark.parametrize("grid", ["integer", "paper"])
@pytest.mark.parametrize("bits", [2, 4, 8, None])
@pytest.mark.parametrize("theta", [3.0, 0.0, -0.1])
@pytest.mark.parametrize(
    "weight",
    [
        torch.zeros(3, 3),
        torch.full((7,), 0.25),
        torch.tensor([-2.0]),
        torch.tensor(0.5),
        torch.randn(4, 4) * 1e30,
        torch.randn(4, 4) * 1e-38,
        torch.cat([torch.zeros(999), torch.ones(1)]),
    ],
    ids=["zeros", "constant", "single", "scalar", "huge", "denormal", "one_survivor"],
)
def test_odd_tensors_give_no_nan(weight: Tensor, theta: float, bits: int | None, grid: str) -> None:
    quantizer = DeadZoneQuantizer(bits, grid=grid, theta_init=theta)  # type: ignore[arg-type]
    weight = weight.clone().requires_grad_()
    value = quantizer(weight)
    value.sum().backward()
    assert value.isfinite().all()
    assert torch.equal(quantizer.encode(weight).dequantize(), value.detach())
    assert weight.grad is not None
    assert weight.grad.isfinite().all()
    for parameter in quantizer.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


def test_survivors_of_a_sparse_tensor_are_kept() -> None:
    # The 0.99 quantile of these is 0: the range falls back to the largest weight.
    weight = torch.cat([torch.zeros(999), torch.tensor([0.75])])
    assert DeadZoneQuantizer(4)(weight)[-1].item() == pytest.approx(0.75)


def test_collapse_guard_holds_and_lets_go() -> None:
    weight = torch.randn(10_000)
    held = DeadZoneQuantizer(4, theta_init=0.01)
    at_guard = DeadZoneQuantizer(4, theta_init=MIN_THETA)
    assert torch.equal(held(weight), at_guard(weight))
    assert held.collapsed()
    assert not at_guard.collapsed()
    assert 0 < held.encode(weight).sparsity < 0.99
    # The task's gradient still reaches theta, as if the guard were not there, so theta can come back.
    (held(weight) - weight).square().sum().backward()
    (at_guard(weight) - weight).square().sum().backward()
    assert held.theta_dz.grad is not None
    assert at_guard.theta_dz.grad is not None
    assert held.theta_dz.grad.item() < 0
    assert held.theta_dz.grad.item() == pytest.approx(at_guard.theta_dz.grad.item())


@pytest.mark.parametrize(("grid", "bound"), [("integer", 0.2), ("paper", 0.6)])
@pytest.mark.full
def test_two_bits_start_usefully(grid: str, bound: float, rng: torch.Generator) -> None:
    weight = torch.randn(100_000, generator=rng)

    def relative_error(quantizer: DeadZoneQuantizer) -> float:
        error = quantizer(weight).detach() - weight
        return float(error.square().mean() / weight.square().mean())

    quantizer = DeadZoneQuantizer(2, grid=grid)  # type: ignore[arg-type]
    assert quantizer.theta_dz.item() == pytest.approx(TERNARY_THETA_INIT)
    assert relative_error(quantizer) < bound
    assert relative_error(DeadZoneQuantizer(2, grid="paper", theta_init=3.0)) > 3  # what this start replaces


def test_float64_is_quantized_in_float32(rng: torch.Generator) -> None:
    weight = torch.randn(50, generator=rng, dtype=torch.float64, requires_grad=True)
    quantizer = DeadZoneQuantizer(4)
    value = quantizer(weight)
    assert value.dtype == torch.float64
    assert torch.equal(value, quantizer(weight.float()).double())
    assert torch.equal(value, quantizer.forward_plain(weight))
    encoding = quantizer.encode(weight)
    assert torch.equal(value.float(), encoding.codes.float() * encoding.scale)
    value.sum().backward()
    assert weight.grad is not None
    assert torch.equal(weight.grad, torch.ones_like(weight))


def test_a_float64_module_computes_the_same(rng: torch.Generator) -> None:
    weight = torch.randn(50, generator=rng)
    single, double = DeadZoneQuantizer(None, theta_init=0.7), DeadZoneQuantizer(None, theta_init=0.7).double()
    assert torch.equal(double(weight.double()), single(weight).double())
    assert torch.equal(double.encode(weight.double()).codes, single.encode(weight).codes)
    double.freeze(weight.double())
    assert double.encode(weight.double()).scale.dtype == torch.float32
    huge = torch.tensor([1e300, -1.0], dtype=torch.float64, requires_grad=True)
    value = double(huge)
    value.sum().backward()
    assert value.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.int8])
def test_other_dtypes_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match=r"expected float32 or float64: keep the master weights in float32"):
        DeadZoneQuantizer(4)(torch.ones(3, dtype=dtype))


def test_nan_weight_is_refused_by_encode() -> None:
    with pytest.raises(ValueError, match="NaN or infinite"):
        DeadZoneQuantizer(4).encode(torch.tensor([1.0, math.nan]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bits": 1}, "bits must be 2 to 8"),
        ({"bits": 40}, "bits must be 2 to 8"),
        ({"bits": True}, "bits must be 2 to 8"),
        ({"bits": None, "max_bits": 2}, "max_bits must be 3 to 8"),
        ({"grid": "float"}, "grid must be 'integer' or 'paper'"),
        ({"grid_limit": 128}, "grid_limit must be 7 to 127"),
        ({"theta_gradient": "mean"}, "theta_gradient must be 'sum' or 'lsq'"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DeadZoneQuantizer(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("bits", [2, 4, 8, None])
def test_lsq_divides_the_gradient_of_theta_by_its_sources_number(bits: int | None, rng: torch.Generator) -> None:
    # Esser et al. 2020: 1 / sqrt(N_W Q_P), with Q_P the largest level; times our gain.
    weight = torch.randn(20, 30, generator=rng)
    gradients = []
    for theta_gradient in ("sum", "lsq"):
        quantizer = DeadZoneQuantizer(bits, theta_init=0.7, theta_gradient=theta_gradient)  # type: ignore[arg-type]
        (quantizer(weight) * weight).sum().backward()
        gradients.append([p.grad.item() for p in quantizer.parameters() if p.grad is not None])
    quant_max = quantizer.encode(weight).quant_max
    assert bits not in (2, 4) or quant_max == 2 ** (bits - 1) - 1
    assert len(gradients[0]) == (2 if bits is None else 1)
    for summed, normalised in zip(*gradients, strict=True):
        assert normalised == pytest.approx(10 * summed / math.sqrt(600 * quant_max), rel=1e-5)


def test_refreeze_moves_a_frozen_grid_and_freeze_does_not(rng: torch.Generator) -> None:
    weight = torch.randn(400, generator=rng)
    quantizer = DeadZoneQuantizer(4, theta_init=1.0)
    quantizer.freeze(weight)
    first = quantizer.exact_grid(weight)
    with torch.no_grad():
        quantizer.theta_dz.fill_(0.5)
    quantizer.freeze(2 * weight)
    assert quantizer.exact_grid(weight) == first
    quantizer.refreeze(2 * weight)
    assert quantizer.exact_grid(weight) == DeadZoneQuantizer(4, theta_init=0.5).exact_grid(2 * weight)
    assert bool(quantizer.frozen)


def test_a_grid_of_others_is_frozen_as_it_is() -> None:
    w = torch.tensor([[-0.9, -0.35, 0.0, 0.1, 0.35, 0.9]])
    quantizer = DeadZoneQuantizer(bits=3, granularity="channel")
    quantizer.expect(w)
    quantizer.freeze_grid(torch.tensor([0.1]), multiplier=2, offset=1, quant_max=3)  # codes 0, 3, 5, 7
    encoding = quantizer.encode(w)
    assert encoding.codes.tolist() == [[-7, -3, 0, 0, 3, 7]]
    assert torch.equal(quantizer(w), encoding.codes.float() * 0.1)
    quantizer.validate_frozen(w)
    paper = DeadZoneQuantizer(bits=3, grid="paper")
    paper.freeze_grid(torch.tensor(0.25), multiplier=1, offset=0, quant_max=3, shift=0.125)
    assert paper(w).tolist() == [[-0.875, -0.375, 0.0, 0.0, 0.375, 0.875]]
    for one, scale in ((paper, torch.ones(1)), (quantizer, torch.tensor(1.0))):
        with pytest.raises(ValueError, match=r"a scale of shape \(1?,?\) does not fit granularity"):
            one.freeze_grid(scale, 1, 0, 3)


def test_frozen_grid_stays_while_weights_move(rng: torch.Generator) -> None:
    weight = torch.randn(500, generator=rng)
    quantizer = DeadZoneQuantizer(4, theta_init=0.7)
    quantizer.freeze(weight)
    before = quantizer.encode(weight)
    moved = (weight * 3).requires_grad_()
    after = quantizer.encode(moved)
    assert after.scale == before.scale
    assert not torch.equal(after.codes, before.codes)
    quantizer(moved).sum().backward()
    assert moved.grad is not None
    assert quantizer.theta_dz.grad is None

    copy = DeadZoneQuantizer(4)
    copy.load_state_dict(quantizer.state_dict())
    assert torch.equal(copy(moved), quantizer(moved))
    assert not copy.theta_dz.requires_grad


def test_a_state_from_before_the_freeze_trains_its_thetas_again(rng: torch.Generator) -> None:
    w = torch.randn(64, generator=rng)
    quantizer = DeadZoneQuantizer(None)
    before = {name: tensor.clone() for name, tensor in quantizer.state_dict().items()}
    quantizer.freeze(w)
    after = {name: tensor.clone() for name, tensor in quantizer.state_dict().items()}
    quantizer.load_state_dict(before)
    assert all(parameter.requires_grad for parameter in quantizer.parameters())
    quantizer(w).square().sum().backward()
    assert quantizer.theta_dz.grad is not None
    quantizer.load_state_dict(after)
    assert not any(parameter.requires_grad for parameter in quantizer.parameters())
    held = DeadZoneQuantizer()
    held.theta_dz.requires_grad_(False)  # by its owner, not by freeze: loading leaves it so
    held.load_state_dict(DeadZoneQuantizer().state_dict())
    assert not held.theta_dz.requires_grad


def test_disabled_quantizer_returns_the_weight_itself() -> None:
    quantizer = DeadZoneQuantizer(4)
    quantizer.enabled = False
    weight = torch.randn(4)
    assert quantizer(weight) is weight
