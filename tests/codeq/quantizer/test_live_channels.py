"""Input channels that do not live are zeros, in values, codes and costs; their weights go on training."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

import codeq
from codeq.quantizer.attach import quantized_weights
from codeq.quantizer.dead_zone import DeadZoneQuantizer

W = torch.randn(8, 6, 3, 3, generator=torch.Generator().manual_seed(2))
LIVE = torch.tensor([True, False, True, True, False, True])


def quantizer(granularity: str = "tensor", axis: int = 0, bits: int | None = 4, **options: object) -> DeadZoneQuantizer:
    made = DeadZoneQuantizer(bits, granularity=granularity, axis=axis, channels=True, **options)  # type: ignore[arg-type]
    made.expect(W if axis == 0 else W.transpose(0, 1))
    made.let_live(LIVE)
    return made


@pytest.mark.parametrize("bits", [2, 4, 8, None])
@pytest.mark.parametrize(("granularity", "axis"), [("tensor", 0), ("channel", 0), ("channel", 1)])
def test_they_are_zeros_and_the_others_are_quantized_as_if_alone(granularity: str, axis: int, bits: int | None) -> None:
    weight = W if axis == 0 else W.transpose(0, 1).contiguous()
    ours = quantizer(granularity, axis, bits)
    alone = DeadZoneQuantizer(bits, granularity=granularity, axis=axis)  # type: ignore[arg-type]
    value = ours(weight).transpose(0, axis)
    assert not value[:, ~LIVE].any()
    expected = alone(weight.transpose(0, axis)[:, LIVE].transpose(0, axis).contiguous()).transpose(0, axis)
    assert torch.equal(value[:, LIVE], expected)
    encoding = ours.encode(weight)
    assert torch.equal(encoding.dequantize(), ours(weight))
    ours.freeze(weight)
    assert torch.equal(ours.encode(weight).codes, encoding.codes)
    assert torch.equal(ours(weight), encoding.dequantize())


@pytest.mark.parametrize("granularity", ["tensor", "channel"])
def test_gradients_pass_to_them(granularity: str) -> None:
    weight = W.clone().requires_grad_()
    gradient = torch.randn(W.shape, generator=torch.Generator().manual_seed(3))
    ours = quantizer(granularity)
    for forward in (ours.forward, ours.forward_plain):
        weight.grad = None
        forward(weight).backward(gradient)
        torch.testing.assert_close(weight.grad, gradient)
    torch.testing.assert_close(ours.forward_plain(weight), ours(weight))


def test_all_alive_is_as_without() -> None:
    ours, plain = quantizer(), DeadZoneQuantizer(4)
    ours.let_live(torch.ones(6, dtype=torch.bool))
    assert torch.equal(ours(W), plain(W))
    assert ours.config() == plain.config() | {"channels": True}


def test_a_file_holds_them(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 3, groups=2), nn.Conv2d(8, 4, 1))
    codeq.attach(model, 4, channels=True)
    found = {weight.name: weight.quantizer for weight in quantized_weights(model)}
    assert [quantizer.channels for quantizer in found.values()] == [True, False, True]  # a group reads its own alone
    found["3.weight"].let_live(torch.arange(8) >= 5)
    codeq.save(tmp_path / "ckpt.pt", model, input_shape=(3, 8, 8))
    loaded = codeq.load(tmp_path / "ckpt.pt", lambda: copy.deepcopy(codeq.detach(copy.deepcopy(model)))).model
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(loaded.eval()(x), model.eval()(x))
    assert codeq.summary(model, (3, 8, 8)).layers[-1].nnz <= 3 * 4
