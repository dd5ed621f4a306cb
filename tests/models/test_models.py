"""The networks have the published sizes."""

import pytest
import torch

import codeq
import models


def count(model: torch.nn.Module, *, statistics: bool) -> int:
    total = sum(parameter.numel() for parameter in model.parameters())
    if statistics:
        total += sum(buffer.numel() for name, buffer in model.named_buffers() if "running" in name)
    return total


@pytest.mark.parametrize(
    ("name", "parameters", "statistics", "macs", "input_shape"),
    [
        # MLPerf Tiny counts BatchNorm's statistics as parameters, as Keras does.
        ("resnet8", 78_666, True, 12_501_632, (3, 32, 32)),
        ("resnet20", 269_722, False, 40_551_040, (3, 32, 32)),
        ("resnet18", 11_689_512, False, 1_814_073_344, (3, 224, 224)),
    ],
)
def test_published_counts(
    name: str, parameters: int, statistics: bool, macs: int, input_shape: tuple[int, ...]
) -> None:
    model = models.create(name)
    assert count(model, statistics=statistics) == parameters
    assert codeq.summary(model, input_shape).macs == macs
    assert model.input_shape == input_shape


@pytest.mark.parametrize("name", models.MODELS)
@pytest.mark.parametrize(("in_channels", "num_classes", "input_size"), [(1, 10, 8), (1, 7, 28), (3, 100, 32)])
def test_arguments_set_input_and_output(name: str, in_channels: int, num_classes: int, input_size: int) -> None:
    model = models.create(name, in_channels=in_channels, num_classes=num_classes, input_size=input_size).eval()
    assert model.input_shape == (in_channels, input_size, input_size)
    assert model(torch.zeros(2, *model.input_shape)).shape == (2, num_classes)


@pytest.mark.parametrize(
    "arguments", [{"num_classes": 0}, {"in_channels": 10**9}, {"input_size": 3}, {"in_channels": True}]
)
def test_arguments_out_of_range_are_named(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} must be an integer from"):
        models.create("resnet8", **arguments)


def test_unknown_name_and_argument() -> None:
    with pytest.raises(
        models.UnknownModelError, match="unknown model 'resnet9', expected one of resnet8, resnet18, resnet20"
    ):
        models.create("resnet9")
    with pytest.raises(models.UnknownModelError, match="takes no argument depth"):
        models.create("resnet8", depth=3)
