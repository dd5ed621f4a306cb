"""State dicts of torchvision and timm load: every name and shape, as their definitions give them."""

from collections.abc import Iterator

import pytest

import models

pytestmark = pytest.mark.quick

Shapes = Iterator[tuple[str, tuple[int, ...]]]


def batch_norm(name: str, channels: int) -> Shapes:
    for tensor in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{tensor}", (channels,)
    yield f"{name}.num_batches_tracked", ()


def affine(name: str, *shape: int) -> Shapes:
    yield f"{name}.weight", shape
    yield f"{name}.bias", (shape[0],)


def resnet(depths: tuple[int, ...], kernels: tuple[int, ...], expansion: int) -> Shapes:
    """torchvision/models/resnet.py: conv1, bn1, layer{1..4}.{block}.conv{1..}, bn{1..}, downsample.0 and .1, fc."""
    yield "conv1.weight", (64, 3, 7, 7)
    yield from batch_norm("bn1", 64)
    channels = 64
    for stage, depth in enumerate(depths):
        width = 64 * 2**stage
        for block in range(depth):
            name = f"layer{stage + 1}.{block}"
            inputs = channels
            for number, kernel in enumerate(kernels, 1):
                outputs = width * expansion if number == len(kernels) else width
                yield f"{name}.conv{number}.weight", (outputs, inputs, kernel, kernel)
                yield from batch_norm(f"{name}.bn{number}", outputs)
                inputs = outputs
            if block == 0 and (stage > 0 or channels != width * expansion):
                yield f"{name}.downsample.0.weight", (width * expansion, channels, 1, 1)
                yield from batch_norm(f"{name}.downsample.1", width * expansion)
            channels = width * expansion
    yield from affine("fc", 1000, channels)


def mobilenet_v2() -> Shapes:
    """torchvision/models/mobilenetv2.py: features.{0..18}, of which 1 to 17 are blocks with `conv`; classifier.1."""
    yield "features.0.0.weight", (32, 3, 3, 3)
    yield from batch_norm("features.0.1", 32)
    channels, number = 32, 0
    outputs = [16] + [24] * 2 + [32] * 3 + [64] * 4 + [96] * 3 + [160] * 3 + [320]
    for number, width in enumerate(outputs, 1):
        name, hidden = f"features.{number}.conv", channels * (1 if number == 1 else 6)
        shapes = [] if number == 1 else [(hidden, channels, 1, 1)]
        shapes.append((hidden, 1, 3, 3))
        for index, shape in enumerate(shapes):
            yield f"{name}.{index}.0.weight", shape
            yield from batch_norm(f"{name}.{index}.1", hidden)
        yield f"{name}.{len(shapes)}.weight", (width, hidden, 1, 1)
        yield from batch_norm(f"{name}.{len(shapes) + 1}", width)
        channels = width
    yield f"features.{number + 1}.0.weight", (1280, channels, 1, 1)
    yield from batch_norm(f"features.{number + 1}.1", 1280)
    yield from affine("classifier.1", 1000, 1280)


def deit_tiny() -> Shapes:
    """timm/models/vision_transformer.py: patch_embed.proj, blocks.{0..11}, norm, head."""
    yield "cls_token", (1, 1, 192)
    yield "pos_embed", (1, 197, 192)
    yield from affine("patch_embed.proj", 192, 3, 16, 16)
    for block in range(12):
        yield from affine(f"blocks.{block}.norm1", 192)
        yield from affine(f"blocks.{block}.attn.qkv", 576, 192)
        yield from affine(f"blocks.{block}.attn.proj", 192, 192)
        yield from affine(f"blocks.{block}.norm2", 192)
        yield from affine(f"blocks.{block}.mlp.fc1", 768, 192)
        yield from affine(f"blocks.{block}.mlp.fc2", 192, 768)
    yield from affine("norm", 192)
    yield from affine("head", 1000, 192)


def state(name: str, **arguments: int) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for key, tensor in models.create(name, **arguments).state_dict().items()}


def test_resnet18() -> None:
    assert state("resnet18") == dict(resnet((2, 2, 2, 2), (3, 3), 1))
    assert len(state("resnet18")) == 122


def test_resnet50() -> None:
    assert state("resnet50") == dict(resnet((3, 4, 6, 3), (1, 3, 1), 4))
    assert len(state("resnet50")) == 320


def test_mobilenet_v2() -> None:
    assert state("mobilenet_v2") == dict(mobilenet_v2())
    assert len(state("mobilenet_v2")) == 314


def test_deit_tiny() -> None:
    assert state("tiny_vit", patch_size=16, input_size=224, num_classes=1000) == dict(deit_tiny())
