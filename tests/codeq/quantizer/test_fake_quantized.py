"""Layers and activation quantizers of torch.ao and torchao become plain ones; what the network computes stays."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import codeq
from codeq.quantizer.fake_quantized import is_fake_quantized, make_plain
from tests.codeq.adopt.others import prepare_with_ao, qconfig, train_with_ao


def quantizers_off(model: nn.Module) -> nn.Module:
    """Without fake quantization of activations."""
    for name, module in model.named_modules():
        if hasattr(module, "fake_quant_enabled") and "weight" not in name:
            module.fake_quant_enabled[0] = 0
    return model


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "not fused"])
def test_torch_ao_becomes_plain_and_computes_the_same(fused: bool) -> None:
    model = quantizers_off(train_with_ao(qconfig(per_channel=True), fused=fused, steps=2))
    x = torch.randn(4, 3, 8, 8)
    expected = model(x)
    assert is_fake_quantized(model)
    taken = make_plain(model)
    assert not is_fake_quantized(model)
    assert len(taken) == (5 if fused else 7)
    for quantizer in taken:
        quantizer.remove()
    assert torch.allclose(model(x), expected, atol=1e-5)
    kinds = {type(module).__name__ for module in model.modules()}
    assert not [kind for kind in kinds if "Bn" in kind or "Quantize" in kind]
    assert not any(module._forward_hooks for module in model.modules())
    assert not model.training
    if fused:
        assert isinstance(model.conv, nn.Sequential)
        assert [type(part) for part in model.conv] == [nn.Conv2d, nn.ReLU]
        assert type(model.conv2) is nn.Conv2d
        assert model.conv2.bias is not None


def test_looking_at_a_weight_does_not_move_its_scale() -> None:
    model = train_with_ao(qconfig(per_channel=False), steps=2)
    expected = model.fc.weight_fake_quant(model.fc.weight)  # type: ignore[union-attr,operator]
    model.fc.weight_fake_quant.enable_observer()  # type: ignore[union-attr,operator]
    model.fc.weight_fake_quant.activation_post_process.averaging_constant = 0.5  # type: ignore[union-attr]
    model.fc.weight.data[0, 0] = 0.2  # type: ignore[union-attr,operator,index]
    model.fc.weight.data[0, 1] = 9.0  # type: ignore[union-attr,operator,index]
    make_plain(model)
    assert torch.equal(model.fc.weight[1:], expected[1:])  # type: ignore[union-attr,operator,index]


def test_a_network_that_was_never_trained_becomes_plain_for_a_file_to_fill() -> None:
    trained, fresh = train_with_ao(qconfig(per_channel=True), steps=1), prepare_with_ao(qconfig(per_channel=True))
    make_plain(trained)
    make_plain(fresh, values=False)
    assert {name: value.shape for name, value in fresh.state_dict().items()} == {
        name: value.shape for name, value in trained.state_dict().items()
    }
    assert [type(module) for module in fresh.modules()] == [type(module) for module in trained.modules()]


class FakeQuantizerBase(nn.Module):
    """Stands for torchao's class of this name."""


class IntxFakeQuantizer(FakeQuantizerBase):
    def forward(self, x: Tensor) -> Tensor:
        return (x / 0.01).round().clamp(-7, 7) * 0.01


class FakeQuantizedLinear(nn.Linear):
    """As torchao's: quantizers of weight and input inside."""

    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes)
        self.weight_fake_quantizer, self.activation_fake_quantizer = IntxFakeQuantizer(), IntxFakeQuantizer()

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(
            self.activation_fake_quantizer(x), self.weight_fake_quantizer(self.weight), self.bias
        )


def test_layers_of_torchao_become_linear_layers() -> None:
    layer = FakeQuantizedLinear(8, 4)
    model = nn.Sequential(layer, layer)
    model[1] = layer
    expected = layer.weight_fake_quantizer(layer.weight)
    (taken,) = make_plain(model)
    assert taken.name == "0.activation_fake_quantizer"
    assert type(model[0]) is nn.Linear
    assert model[0] is model[1]  # shared, as it was
    assert torch.equal(model[0].weight, expected)
    seen = []
    taken.passed.forward = lambda x: seen.append(x) or x  # type: ignore[method-assign,func-returns-value]
    x = torch.randn(2, 8)
    model[0](x)
    assert torch.equal(seen[0], x)
    taken.remove()
    model[0](x)
    assert len(seen) == 1


class FakeQuantizedEmbedding(nn.Embedding):
    """As torchao's."""

    def __init__(self) -> None:
        super().__init__(10, 4, padding_idx=2)
        self.weight_fake_quantizer = IntxFakeQuantizer()


def test_an_embedding_has_its_quantized_values() -> None:
    layer = FakeQuantizedEmbedding()
    expected = layer.weight_fake_quantizer(layer.weight)
    model = nn.Sequential(layer)
    make_plain(model)
    assert type(model[0]) is nn.Embedding
    assert model[0].padding_idx == 2
    assert torch.equal(model[0].weight, expected)


class OwnLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias, self.weight_fake_quant = nn.Parameter(torch.ones(2)), None, IntxFakeQuantizer()


class WithValue(NamedTuple):
    """Stands for Brevitas' IntQuantTensor."""

    value: Tensor


class WeightQuantProxy(nn.Module):
    def forward(self, x: Tensor) -> WithValue:
        return WithValue((x / 0.02).round().clamp(-7, 7) * 0.02)


class ActQuantProxyFromInjectorBase(nn.Module):
    """Stands for Brevitas' class of this name."""

    def __init__(self, *, enabled: bool) -> None:
        super().__init__()
        self.is_quant_enabled = enabled


class QuantProxyMixin:
    """Stands for Brevitas' class of this name, which all its layers have."""


class QuantReLU(QuantProxyMixin, nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.input_quant = ActQuantProxyFromInjectorBase(enabled=False)
        self.act_quant = ActQuantProxyFromInjectorBase(enabled=True)


class QuantEltwiseAdd(QuantProxyMixin, nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.input_quant = ActQuantProxyFromInjectorBase(enabled=True)


class QuantConvTranspose2d(QuantProxyMixin, nn.ConvTranspose2d):
    """As Brevitas' layers: proxies inside, of which only that of the weight is switched on by default."""

    def __init__(self) -> None:
        super().__init__(4, 6, 3, stride=2, output_padding=1, groups=2)
        self.input_quant = ActQuantProxyFromInjectorBase(enabled=True)
        self.output_quant = ActQuantProxyFromInjectorBase(enabled=False)
        self.weight_quant = WeightQuantProxy()


def test_layers_of_brevitas_become_plain() -> None:
    layer = QuantConvTranspose2d()
    expected = layer.weight_quant(layer.weight).value
    model = nn.Sequential(layer, QuantReLU())
    taken = make_plain(model)
    assert [quantizer.name for quantizer in taken] == ["0.input_quant", "1.act_quant"]
    assert [type(module) for module in model] == [nn.ConvTranspose2d, nn.ReLU]
    assert torch.equal(model[0].weight, expected)
    x = torch.randn(1, 4, 5, 5)
    wanted = nn.functional.conv_transpose2d(x, expected, layer.bias, 2, output_padding=1, groups=2)
    assert torch.equal(model(x), wanted.relu())


def test_layers_of_ones_own_with_such_names_are_left_alone() -> None:
    layer = nn.Linear(2, 2)
    layer.weight_quant, layer.act_quant = WeightQuantProxy(), nn.ReLU()
    model = nn.Sequential(layer)
    assert not is_fake_quantized(model)
    assert make_plain(model) == []
    assert model[0] is layer


def failing() -> nn.Module:
    layer = FakeQuantizedLinear(8, 4)

    def fail(x: Tensor) -> Tensor:
        raise RuntimeError("a reason")

    layer.weight_fake_quantizer.forward = fail  # type: ignore[method-assign]
    return layer


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: FakeQuantizedLinear(8, 4), r"the network itself is a FakeQuantizedLinear; put it into a"),
        (lambda: nn.Sequential(OwnLayer()), "0: no plain layer is known for a OwnLayer; replace it by one of torch.nn"),
        (lambda: prepare_with_ao(qconfig(per_channel=True)), "conv: its weight quantizer has seen no weight; run the"),
        (lambda: prepare_with_ao(qconfig(per_channel=False)), "conv: its weight quantizer has seen no weight; run the"),
        (lambda: nn.Sequential(QuantEltwiseAdd()), "0: no plain layer is known for a QuantEltwiseAdd; replace it by"),
        (lambda: nn.Sequential(failing()), r"0: its weight quantizer fails \(a reason\)"),
    ],
    ids=["root", "own", "no scales per channel", "no scale", "a sum", "failing"],
)
def test_what_cannot_become_plain(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(codeq.AttachError, match=message):
        make_plain(build())


def test_other_networks_are_left_alone() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    before = list(model.modules())
    assert not is_fake_quantized(model)
    assert make_plain(model) == []
    assert list(model.modules()) == before
