"""The network of a run: fitted to the data, attached as the recipe says, taken from a checkpoint, refused in a line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from codeq.checkpoint import Checkpoint
from codeq.data import Dataset
from codeq.data.tensors import build_dataset
from codeq.errors import CheckpointError, DataError
from codeq.quantizer.attach import quantized_weights
from codeq.training.network import build_network
from codeq.training.recipe import TrainConfig

FOREIGN = TrainConfig(model="mine:net")


@pytest.fixture
def data(rng: torch.Generator) -> Dataset:
    pixels = torch.randint(0, 256, (6, 1, 8, 8), generator=rng, dtype=torch.uint8)
    split = (pixels, torch.arange(6) % 3)
    return build_dataset(split, split, num_classes=3, max_pixel=255, shift=0, flip=False, source="random")


def classifier(classes: int = 3) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))


@pytest.fixture
def build(data: Dataset) -> Callable[..., Any]:
    inputs = data.train.load(torch.arange(6))
    return lambda config, **options: build_network(config, data, inputs, **options)


def test_a_registry_network_fits_the_data_and_is_attached_as_asked(build: Callable[..., Any]) -> None:
    network = build(TrainConfig(bits=3, theta_init=1.5, grid="paper"))
    assert network.arguments == {"in_channels": 1, "input_size": 8, "num_classes": 3}
    weights = list(quantized_weights(network.model))
    assert {weight.name for weight in weights} == set(network.attached.quantized)
    assert {(weight.quantizer.bits, weight.quantizer.grid) for weight in weights} == {(3, "paper")}
    assert {weight.quantizer.theta_dz.item() for weight in weights} == {1.5}


def test_a_float_twin_has_no_quantizers(build: Callable[..., Any]) -> None:
    network = build(TrainConfig(bits=32))
    assert network.attached is None
    assert not list(quantized_weights(network.model))


def test_a_resumed_run_trains_the_network_of_its_checkpoint(build: Callable[..., Any]) -> None:
    model = classifier()
    network = build(FOREIGN, resume=Checkpoint(model, Path("part.pt"), "", None, {}, (1, 8, 8)))
    assert network.model is model
    with pytest.raises(CheckpointError, match=r"^part.pt: is for inputs \(3, 4, 4\), digits has \(1, 8, 8\)$"):
        build(FOREIGN, resume=Checkpoint(model, Path("part.pt"), "", None, {}, (3, 4, 4)))
    with pytest.raises(CheckpointError, match=r"part\.pt: takes the inputs x, y; codeq\.train trains networks of one"):
        build(FOREIGN, resume=Checkpoint(model, Path("part.pt"), "", None, {}, {"x": (1, 8, 8), "y": (2,)}))


class Tuple(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = classifier()

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.fc(x),)


def broken() -> nn.Module:
    model = classifier()
    nn.init.constant_(model[1].bias, float("nan"))
    return model


@pytest.mark.parametrize(
    ("config", "factory", "message"),
    [
        (FOREIGN, None, "--model mine:net: is not in the registry; give its factory to Trainer"),
        (FOREIGN, lambda: nn.Linear(3, 3), r"--model mine:net: does not take digits's \(2, 1, 8, 8\)"),
        (FOREIGN, lambda: classifier(4), r"answers shape \(2, 4\) to digits, expected logits of shape \(2, 3\)"),
        (FOREIGN, Tuple, "answers a tuple to digits"),
        (FOREIGN, lambda: classifier().requires_grad_(False), "has no parameter that trains"),
        (FOREIGN, broken, r"1\.bias has NaN or infinite entries"),
        (TrainConfig(model="ds_cnn", data="digits"), None, None),
        (TrainConfig(model="autoencoder"), None, "digits does not fit autoencoder: expected inputs of in_features"),
    ],
    ids=["no_factory", "other_inputs", "other_classes", "a_tuple", "nothing_trains", "nan", "fits", "no_image"],
)
def test_networks_that_do_not_fit_the_data(
    config: TrainConfig, factory: Callable[[], nn.Module] | None, message: str | None, build: Callable[..., Any]
) -> None:
    if message is None:
        assert build(config).arguments["height"] == 8
        return
    with pytest.raises(DataError, match=message):
        build(config, factory=factory)
