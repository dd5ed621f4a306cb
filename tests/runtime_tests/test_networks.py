"""Networks as training leaves them: their zeros, levels, BatchNorms and tokens."""

import pytest
import torch
from torch import nn

import codeq
from runtime_tests.networks import (
    WIDTH,
    ZOO_ZEROS,
    batch_norms,
    draw_codes,
    sample_network,
    share_zeros,
    wide_network,
    zoo_network,
)

SMALL = {
    "resnet8": {"input_size": 8},
    "mobilenet_v2": {"input_size": 32, "width": 0.35, "num_classes": 10},
    "tiny_vit": {"input_size": 8, "depth": 2},
}


def test_drawn_codes_have_the_zeros_asked_for() -> None:
    model, _ = sample_network("resnet8")
    draw_codes(model, 0.8)
    encodings = codeq.encode(model)
    zeros = sum(encoding.codes.numel() - encoding.nnz for encoding in encodings.values())
    total = sum(encoding.codes.numel() for encoding in encodings.values())
    assert zeros / total == pytest.approx(0.8, abs=0.01)
    levels = torch.cat([encoding.levels.flatten().abs() for encoding in encodings.values()])
    shares = torch.bincount(levels[levels > 0].int(), minlength=8)[1:] / (levels > 0).sum()
    assert float(shares[0]) == pytest.approx(0.3155, abs=0.02)
    assert float(shares[6]) == pytest.approx(0.1415, abs=0.02)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.full
def test_a_network_is_as_training_leaves_it(name: str) -> None:
    model, inputs = zoo_network(name, SMALL[name])
    cost = codeq.summary(model, tuple(inputs.shape[1:]))
    assert cost.sparsity == pytest.approx(ZOO_ZEROS, abs=0.01)
    assert {layer.weight_bits for layer in cost.layers} == {4}
    with torch.no_grad():
        outputs = model(inputs)
    assert 1e-3 < float(outputs.std()) < 1e3
    for norm in batch_norms(model):
        assert norm.momentum == 0.1
        assert norm.running_mean is not None
        assert norm.weight[0] < 0 < norm.weight.max()
        assert float(norm.running_mean.abs().max()) > 0


def test_a_transformers_tokens_are_of_one_size() -> None:
    model, _ = zoo_network("tiny_vit", SMALL["tiny_vit"])
    parameters = dict(model.named_parameters())
    for name in ("cls_token", "pos_embed"):
        assert parameters[name].detach().std().item() == pytest.approx(1.0, abs=1e-3)


def test_small_channels_keep_more_of_their_weights() -> None:
    model = nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 40, 3))
    codeq.attach(model, bits=4)
    shares = share_zeros(model)
    assert shares["0.weight"] == 0.5
    numel = {"0.weight": 72, "1.weight": 2880}
    assert sum(shares[name] * count for name, count in numel.items()) == pytest.approx(ZOO_ZEROS * 2952)


@pytest.mark.parametrize(("parameters", "layers"), [(1, 1), (3 * WIDTH**2, 3)])
def test_a_wide_network_has_the_parameters_asked_for(parameters: int, layers: int) -> None:
    model, inputs = wide_network(parameters)
    assert sum(isinstance(module, nn.ReLU) for module in model) == layers
    assert inputs.shape == (2, WIDTH)


def test_a_network_is_the_same_every_time() -> None:
    (first, x), (second, y) = (zoo_network("resnet8", SMALL["resnet8"]) for _ in range(2))
    assert torch.equal(x, y)
    theirs = second.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in first.state_dict().items())
