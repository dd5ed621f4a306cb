"""Ranges per channel: each channel is what a quantizer of its own would make of it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import codeq
import models
from codeq.quantizer.attach import quantized_weights
from codeq.quantizer.channels import channel_range
from codeq.quantizer.dead_zone import DeadZoneQuantizer

SHAPES = [((6, 5), 0), ((6, 4, 3, 3), 0), ((4, 6, 2), 1), ((6, 1, 3, 3), 0)]


def spread(shape: tuple[int, ...], axis: int, rng: torch.Generator) -> Tensor:
    """Weights whose channels differ by a factor of a thousand."""
    factors = torch.logspace(-2, 1, shape[axis]).reshape([-1 if d == axis else 1 for d in range(len(shape))])
    return torch.randn(shape, generator=rng) * factors


@pytest.mark.parametrize(("shape", "axis"), SHAPES)
@pytest.mark.parametrize("bits", [8, 4, 2])
def test_each_channel_is_quantized_as_by_a_quantizer_of_its_own(
    shape: tuple[int, ...], axis: int, bits: int, rng: torch.Generator
) -> None:
    weight = spread(shape, axis, rng)
    quantizer = DeadZoneQuantizer(bits, granularity="channel", axis=axis, theta_init=0.8)
    encoding = quantizer.encode(weight)
    assert tuple(encoding.scale.shape) == (shape[axis],)
    value = quantizer(weight)
    assert torch.equal(value, encoding.codes.float() * encoding.along_axis(encoding.scale))
    assert torch.equal(value, encoding.dequantize())
    alone = DeadZoneQuantizer(bits, theta_init=0.8)
    for channel in range(shape[axis]):
        row = weight.select(axis, channel)
        assert torch.equal(value.select(axis, channel), alone(row))
        assert torch.equal(encoding.codes.select(axis, channel), alone.encode(row).codes)


def test_small_channels_keep_their_weights(rng: torch.Generator) -> None:
    """The reason for it: one range for all leaves nothing of a channel a thousand times smaller than another."""
    weight = spread((6, 40), 0, rng)
    errors = {}
    for granularity in ("tensor", "channel"):
        value = DeadZoneQuantizer(8, granularity=granularity)(weight)  # type: ignore[arg-type]
        errors[granularity] = float((value.detach() - weight)[0].norm() / weight[0].norm())
    assert errors["channel"] < 0.05 < 0.9 < errors["tensor"], errors


@pytest.mark.parametrize("bits", [4, None])
@pytest.mark.parametrize("gradient", ["sum", "lsq"])
def test_gradients_are_those_of_the_definition(bits: int | None, gradient: Any, rng: torch.Generator) -> None:
    weight = spread((6, 4, 3, 3), 0, rng)
    upstream = torch.randn(weight.shape, generator=rng)
    found = []
    for name in ("forward", "forward_plain"):
        quantizer = DeadZoneQuantizer(bits, granularity="channel", theta_init=0.9, theta_gradient=gradient)
        x = weight.clone().requires_grad_()
        value = getattr(quantizer, name)(x)
        value.backward(upstream)
        found.append((value.detach(), x.grad, *(p.grad for p in quantizer.parameters())))
    assert torch.equal(found[0][0], found[1][0])
    for one, other in zip(found[0][1:], found[1][1:], strict=True):
        assert one is not None
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)  # type: ignore[arg-type]


def test_the_range_is_the_quantile_of_each_channel(rng: torch.Generator) -> None:
    weight = torch.randn(5, 300, generator=rng)
    expected = torch.quantile(weight.abs(), 0.99, dim=1)
    assert torch.allclose(channel_range(weight, 0.99, 0), expected)
    weight[0] = 0
    weight[1] = 0
    weight[1, 7] = -3
    found = channel_range(weight, 0.99, 0)
    assert (float(found[0]), float(found[1])) == (1, 3)
    assert torch.equal(channel_range(torch.tensor([-2.0, 0.0]), 0.99, 0), torch.tensor([2.0, 1.0]))


def test_attach_finds_the_axis() -> None:
    model = nn.Sequential(nn.ConvTranspose2d(3, 5, 2), nn.ReLU(), nn.Conv2d(5, 4, 1))
    codeq.attach(model, 4, granularity="channel")
    assert [len(encoding.scale) for encoding in codeq.encode(model).values()] == [5, 4]


def test_a_frozen_grid_is_kept_and_comes_back_from_a_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = models.create("autoencoder", in_features=16)
    codeq.attach(model, 4, granularity="channel")
    codeq.freeze(model)
    before = codeq.encode(model)
    with torch.no_grad():
        for weight in quantized_weights(model):
            weight.original.mul_(0.5)
    after = codeq.encode(model)
    assert all(torch.equal(after[name].scale, encoding.scale) for name, encoding in before.items())
    assert not any(torch.equal(after[name].codes, encoding.codes) for name, encoding in before.items())
    arguments = {"in_features": 16}
    codeq.save(tmp_path / "ckpt.pt", model, input_shape=(16,), name="autoencoder", arguments=arguments)
    loaded = codeq.encode(codeq.load(tmp_path / "ckpt.pt").model)
    for name, encoding in after.items():
        assert torch.equal(loaded[name].codes, encoding.codes)
        assert torch.equal(loaded[name].scale, encoding.scale)


def test_given_ranges_are_frozen(rng: torch.Generator) -> None:
    weight = torch.randn(4, 9, generator=rng)
    quantizer = DeadZoneQuantizer(8, granularity="channel")
    quantizer.freeze_channels(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    encoding = quantizer.encode(weight)
    assert torch.allclose(encoding.scale * encoding.top_code, torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert not quantizer.theta_dz.requires_grad
    units = quantizer.in_units(weight)
    assert torch.allclose(units, weight / torch.tensor([1.0, 2.0, 3.0, 4.0])[:, None])
    with pytest.raises(ValueError, match="granularity 'channel'"):
        DeadZoneQuantizer(8).freeze_channels(torch.ones(4))
    quantizer.validate_frozen(weight)
    with pytest.raises(ValueError, match=r"frozen scales have shape \(4,\), expected \(5,\)"):
        quantizer.validate_frozen(torch.ones(5, 9))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"granularity": "row"}, "granularity must be 'tensor' or 'channel'"),
        ({"granularity": "channel", "grid": "paper"}, "needs grid 'integer'"),
        ({"granularity": "channel", "axis": 2}, "axis must be 0 or 1"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DeadZoneQuantizer(4, **arguments)
