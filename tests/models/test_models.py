"""The networks have the published sizes, take arguments, and refuse bad ones."""

from typing import Any

import pytest
import torch
from torch import nn

import codeq
import models

pytestmark = pytest.mark.quick


def count(model: nn.Module, *, statistics: bool) -> int:
    total = sum(parameter.numel() for parameter in model.parameters())
    if statistics:
        total += sum(buffer.numel() for name, buffer in model.named_buffers() if "running" in name)
    return total


def products(model: nn.Module) -> int:
    """Multiply-adds that are no layer's: of attention between tokens."""
    total = 0

    def attend(layer: nn.Module, inputs: tuple[torch.Tensor, ...], _: Any) -> None:
        nonlocal total
        tokens, width = inputs[0].shape[1:]
        total += 2 * tokens * tokens * width

    for module in model.modules():
        if type(module).__name__ == "Attention":
            module.register_forward_hook(attend)
    with torch.no_grad():
        model.eval()(torch.zeros(1, *model.input_shape))  # type: ignore[misc]
    return total


# The figures of MLPerf Tiny are Keras' "Total params", which count BatchNorm's statistics, and the multiply-adds of its
# reference files kws_ref_model, vww_96 and ad01 (mlcommons/tiny, benchmark/training/*/trained_models).
@pytest.mark.parametrize(
    ("name", "parameters", "statistics", "macs", "input_shape"),
    [
        ("resnet8", 78_666, True, 12_501_632, (3, 32, 32)),
        ("ds_cnn", 24_908, True, 2_656_768, (1, 49, 10)),
        ("mobilenet_v1", 221_794, True, 7_489_664, (3, 96, 96)),
        ("autoencoder", 269_992, True, 264_192, (640,)),
        # He et al. 2016: 0.27M parameters, 4.1e7 multiply-adds (as Idelbayev's pytorch_resnet_cifar10 counts).
        ("resnet20", 269_722, False, 40_551_040, (3, 32, 32)),
        # torchvision's documentation, num_params and GFLOPS: 11689512 and 1.81, 25557032 and 4.09, 3504872 and 0.30.
        ("resnet18", 11_689_512, False, 1_814_073_344, (3, 224, 224)),
        ("resnet50", 25_557_032, False, 4_089_184_256, (3, 224, 224)),
        ("mobilenet_v2", 3_504_872, False, 300_774_272, (3, 224, 224)),
        # Not published at this size: what the layers' definitions give; test_deit_tiny holds the published one.
        ("tiny_vit", 5_362_762, False, 345_638_784 + 19_468_800, (3, 32, 32)),
        # Kernels and filters of the paper: 9 x 128 x 8, 128 x 256 x 5 and 256 x 128 x 3, over 128 steps; 128 x 6.
        ("fcn_1d", 273_670, False, 128 * (9_216 + 163_840 + 98_304) + 768, (9, 128)),
        # Zhang et al. 2017: 3.8 million operations, two to a multiply-add.
        ("gru", 78_552, False, 1_896_048, (25, 10)),
    ],
)
def test_published_counts(
    name: str, parameters: int, statistics: bool, macs: int, input_shape: tuple[int, ...]
) -> None:
    model = models.create(name)
    assert count(model, statistics=statistics) == parameters
    assert codeq.summary(model, input_shape).macs + products(model) == macs
    assert model.input_shape == input_shape


def test_every_network_is_counted() -> None:
    parametrized = test_published_counts.pytestmark[0].args[1]  # type: ignore[attr-defined]
    assert {row[0] for row in parametrized} == set(models.MODELS)


def test_deit_tiny() -> None:
    # timm's deit_tiny_patch16_224: 5.7M parameters, 1.3 GMACs; 5,717,416 in full.
    model = models.create("tiny_vit", patch_size=16, input_size=224, num_classes=1000)
    assert count(model, statistics=False) == 5_717_416
    assert round((codeq.summary(model, (3, 224, 224)).macs + products(model)) / 1e9, 2) == 1.25


IMAGES = [name for name, network in models.MODELS.items() if network.input_axes.count("input_size") == 2]


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize(("in_channels", "num_classes", "input_size"), [(1, 10, 8), (1, 7, 28), (3, 100, 32)])
def test_arguments_set_input_and_output(name: str, in_channels: int, num_classes: int, input_size: int) -> None:
    model = models.create(name, in_channels=in_channels, num_classes=num_classes, input_size=input_size).eval()
    assert model.input_shape == (in_channels, input_size, input_size)
    assert model(torch.zeros(2, *model.input_shape)).shape == (2, num_classes)


@pytest.mark.parametrize(
    ("name", "arguments", "input_shape", "outputs"),
    [
        ("ds_cnn", {"in_channels": 2, "num_classes": 3, "height": 4, "width": 5}, (2, 4, 5), 3),
        ("ds_cnn", {"height": 98, "width": 40}, (1, 98, 40), 12),
        ("ds_cnn", {"height": 5, "width": 7}, (1, 5, 7), 12),
        ("fcn_1d", {"in_channels": 3, "num_classes": 4, "length": 1}, (3, 1), 4),
        ("gru", {"in_features": 6, "num_classes": 5, "length": 100}, (100, 6), 5),
        ("autoencoder", {"in_features": 33}, (33,), 33),
        ("mobilenet_v1", {"width": 1, "input_size": 33}, (3, 33, 33), 2),
        ("mobilenet_v2", {"width": 0.35, "input_size": 33}, (3, 33, 33), 1000),
        ("resnet18", {"width": 0.05, "num_classes": 7}, (3, 224, 224), 7),
        ("resnet50", {"width": 0.25, "input_size": 33}, (3, 33, 33), 1000),
        ("tiny_vit", {"patch_size": 8, "input_size": 24, "depth": 1}, (3, 24, 24), 10),
    ],
    ids=str,
)
def test_arguments_of_their_own(
    name: str, arguments: dict[str, Any], input_shape: tuple[int, ...], outputs: int
) -> None:
    model = models.create(name, **arguments).eval()
    assert model.input_shape == input_shape
    assert model(torch.zeros(2, *input_shape)).shape == (2, outputs)


# Howard et al. 2017, table 6: 569 and 41 million multiply-adds; Keras' MobileNet has these "Total params".
@pytest.mark.parametrize(("width", "parameters", "macs"), [(1.0, 4_253_864, 569), (0.25, 475_544, 41)])
def test_mobilenet_v1_in_the_papers_widths(width: float, parameters: int, macs: int) -> None:
    model = models.create("mobilenet_v1", width=width, num_classes=1000, input_size=224)
    # The reference of MLPerf Tiny has biases in front of BatchNorm, the paper and Keras have none.
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    biases = sum(module.bias.numel() for module in convolutions if module.bias is not None)
    assert count(model, statistics=True) - biases == parameters
    assert round(codeq.summary(model, (3, 224, 224)).macs / 1e6) == macs


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("resnet8", {"num_classes": 0}, "num_classes must be an integer from 1 to 65536, found 0"),
        ("resnet8", {"in_channels": 10**9}, "in_channels must be an integer from 1 to 1024"),
        ("resnet8", {"input_size": 3}, "input_size must be an integer from 4"),
        ("resnet50", {"in_channels": True}, "in_channels must be an integer from"),
        ("ds_cnn", {"height": 3}, "height must be an integer from 4"),
        ("ds_cnn", {"width": 10.0}, "width must be an integer from 4"),
        ("fcn_1d", {"length": 0}, "length must be an integer from 1"),
        ("gru", {"in_features": -1}, "in_features must be an integer from 1"),
        ("autoencoder", {"in_features": 10**9}, "in_features must be an integer from 1 to 65536"),
        ("mobilenet_v1", {"width": 0.0}, "width must be a number from 0.05 to 8, found 0.0"),
        ("mobilenet_v2", {"width": float("nan")}, "width must be a number from 0.05 to 8, found nan"),
        ("resnet18", {"width": 9}, "width must be a number from 0.05 to 8, found 9"),
        ("tiny_vit", {"input_size": 30}, "input_size must be a multiple of patch_size 4, found 30"),
        ("tiny_vit", {"patch_size": 0}, "patch_size must be an integer from 1"),
        ("tiny_vit", {"depth": 65}, "depth must be an integer from 1 to 64"),
    ],
    ids=str,
)
def test_arguments_out_of_range_are_named(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        models.create(name, **arguments)


@pytest.mark.parametrize("name", models.MODELS)
def test_a_seed_gives_one_network(name: str) -> None:
    shape = models.create(name).input_shape
    built = []
    for _ in range(2):
        torch.manual_seed(5)
        built.append(models.create(name).eval())
    x = torch.randn(1, *shape)  # type: ignore[misc]
    with torch.no_grad():
        first, second = (model(x) for model in built)
    assert bool(torch.isfinite(first).all())
    assert torch.equal(first, second)


def test_ds_cnn_pools_24_of_25_rows(rng: torch.Generator) -> None:
    # AveragePooling2D(pool_size=(49 // 2, 10 // 2)) of the reference, on 25 x 5.
    model = models.create("ds_cnn")
    x = torch.rand(2, 64, 25, 5, generator=rng)
    torch.testing.assert_close(model.pool(x).flatten(1), x[:, :, :24].mean((2, 3)))
