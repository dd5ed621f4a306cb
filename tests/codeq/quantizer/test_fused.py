"""The fused operator against its plain definition: the same bits, the same gradients, nothing kept but the weight."""

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from codeq.quantizer import fused
from codeq.quantizer.dead_zone import DeadZoneQuantizer

pytestmark = [pytest.mark.quick, pytest.mark.slow("whoever comes first compiles, where no earlier run has left it")]


@pytest.fixture(params=["eager", "compiled"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every weight goes the eager way, or every one the compiled."""
    monkeypatch.setattr(fused, "COMPILE_NUMEL", 1 if request.param == "compiled" else 2**40)
    monkeypatch.setattr(fused, "CHUNK_NUMEL", 300)  # several chunks, the last one shorter
    return str(request.param)


def run(call: object, weight: Tensor, upstream: Tensor, quantizer: DeadZoneQuantizer) -> list[Tensor]:
    weight = weight.clone(memory_format=torch.preserve_format).requires_grad_()
    quantizer.zero_grad()
    value = call(weight)  # type: ignore[operator]
    value.backward(upstream)
    assert weight.grad is not None
    return [value.detach(), weight.grad, *(p.grad.clone() for p in quantizer.parameters() if p.grad is not None)]


def assert_same(quantizer: DeadZoneQuantizer, weight: Tensor, upstream: Tensor) -> None:
    value, by_weight, *by_thetas = run(quantizer, weight, upstream, quantizer)
    plain, plain_by_weight, *plain_by_thetas = run(quantizer.forward_plain, weight, upstream, quantizer)
    assert value.contiguous().numpy().tobytes() == plain.contiguous().numpy().tobytes()
    assert torch.equal(by_weight, plain_by_weight)
    assert len(by_thetas) == len(plain_by_thetas) == (0 if quantizer.frozen else 1 + (quantizer.bits is None))
    # Both sum millions of terms of both signs in float32: the sum of their magnitudes is the measure.
    tolerance = 1e-5 * float(upstream.abs().sum() * weight.abs().max()) + 1e-30
    for ours, theirs in zip(by_thetas, plain_by_thetas, strict=True):
        assert ours.item() == pytest.approx(theirs.item(), rel=1e-4, abs=tolerance)


@pytest.mark.parametrize("grid", ["integer", "paper"])
@pytest.mark.parametrize("bits", [2, 3, 4, 8, None])
@pytest.mark.parametrize("theta", [3.0, -0.7, 0.3, 0.1])
@pytest.mark.parametrize("theta_gradient", ["sum", "lsq"])
def test_values_and_gradients_are_the_definitions(
    way: str, bits: int | None, theta: float, grid: str, theta_gradient: str
) -> None:
    quantizer = DeadZoneQuantizer(bits, grid=grid, theta_init=theta, theta_gradient=theta_gradient)  # type: ignore[arg-type]
    if quantizer.theta_bit is not None:
        torch.nn.init.constant_(quantizer.theta_bit, 0.6)
    weight = torch.randn(7, 3, 5, 5)
    weight[0] = 0
    assert_same(quantizer, weight, torch.randn_like(weight))
    quantizer.freeze(weight)
    assert_same(quantizer, weight * 1.5, torch.randn_like(weight))


@pytest.mark.parametrize(
    "weight",
    [
        torch.randn(6, 4, 3, 3).to(memory_format=torch.channels_last),
        torch.randn(6, 4, 3, 3, 3).to(memory_format=torch.channels_last_3d),
        torch.randn(30, 40).T,
        torch.randn(30, 40)[:, ::2],
        torch.tensor(0.5),
        torch.zeros(5, 5),
        torch.randn(40, 40) * 1e30,
    ],
    ids=["channels_last", "channels_last_3d", "transposed", "strided", "scalar", "zeros", "huge"],
)
def test_every_layout(way: str, weight: Tensor) -> None:
    quantizer = DeadZoneQuantizer(4, theta_init=0.8)
    assert_same(quantizer, weight, torch.randn(weight.shape))
    assert_same(quantizer, weight, torch.randn_like(weight))


@given(bits=st.one_of(st.none(), st.integers(2, 8)), theta=st.floats(-4, 4), seed=st.integers(0, 2**31))
def test_eager_values_are_the_definitions(bits: int | None, theta: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(2000, generator=generator) ** 3
    quantizer = DeadZoneQuantizer(bits, theta_init=theta)
    assert_same(quantizer, weight, torch.randn(2000, generator=generator))


def test_nothing_is_kept_but_the_weight() -> None:
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    quantizer = DeadZoneQuantizer(None, theta_init=1.0)
    weight = torch.randn(1000, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        quantizer(weight)
    storages = {tensor.untyped_storage().data_ptr() for tensor in kept if tensor.numel() > 1}
    assert storages == {weight.untyped_storage().data_ptr()}
    kept.clear()
    quantizer.freeze(weight)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        quantizer(weight)
    assert kept == []


def test_without_a_compiler_the_eager_way_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("no C++ compiler was found")

    weight = torch.randn(fused.COMPILE_NUMEL)
    quantizer = DeadZoneQuantizer(4, theta_init=0.8)
    expected = quantizer.forward_plain(weight)
    fused._compile.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(torch, "compile", fail)
        assert torch.equal(quantizer(weight), expected)
        assert fused._compile("cpu") is None
    fused._compile.cache_clear()


def test_a_compiled_kernel_that_fails_later_is_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*tensors: Tensor) -> Tensor:
        raise RuntimeError("no space left for another size\nand more")

    monkeypatch.setattr(fused, "COMPILE_NUMEL", 1)
    monkeypatch.setattr(fused._Setting, "compile", True)
    weight, quantizer = torch.randn(40, 40), DeadZoneQuantizer(4, theta_init=0.7)
    expected = run(quantizer.forward_plain, weight, weight, quantizer)
    for broken in (fused._Compiled(fail, fail), fused._Compiled(fused._value, fail)):
        monkeypatch.setattr(fused, "_compile", lambda device, broken=broken: broken)
        fused.set_compile(True)
        found = run(quantizer, weight, weight, quantizer)
        assert torch.equal(found[0], expected[0])
        assert found[2].item() == pytest.approx(expected[2].item(), rel=1e-4)
        assert not fused._Setting.compile
    assert (
        caplog.messages
        == ["the compiled quantizer failed, the slower one goes on (no space left for another size)"] * 2
    )


def test_compilation_can_be_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "_compile", lambda device: pytest.fail("compiled all the same"))
    fused.set_compile(False)
    try:
        DeadZoneQuantizer(4)(torch.randn(fused.COMPILE_NUMEL))
    finally:
        fused.set_compile(True)


def test_a_range_serves_ten_calls_in_training_and_is_exact_elsewhere() -> None:
    quantizer = DeadZoneQuantizer(4, theta_init=1.0)
    weight = torch.randn(1000).requires_grad_()
    first = quantizer(weight).max()
    with torch.no_grad():
        weight.mul_(2)
    peaks = [quantizer(weight).max() for _ in range(10)]
    assert [bool(peak == first) for peak in peaks] == [True] * 9 + [False]
    assert peaks[-1].item() == pytest.approx(2 * first.item())
    with torch.no_grad():
        weight.mul_(2)
    quantizer.eval()
    assert quantizer(weight).max().item() == pytest.approx(4 * first.item())


@pytest.mark.parametrize("change", ["mode", "load", "copy", "other weight"])
def test_a_kept_range_does_not_outlive_its_weight(change: str) -> None:
    quantizer = DeadZoneQuantizer(4, theta_init=1.0)
    weight = torch.randn(1000).requires_grad_()
    quantizer(weight)
    with torch.no_grad():
        weight.mul_(2)
    if change == "mode":
        quantizer.eval()
        quantizer.train()
    elif change == "load":
        quantizer.load_state_dict(quantizer.state_dict())
    elif change == "copy":
        quantizer = copy.deepcopy(quantizer)
    else:
        weight = weight.detach().clone().requires_grad_()
    assert torch.equal(quantizer(weight), quantizer.forward_plain(weight))
    assert not math.isnan(quantizer(weight).sum().item())
