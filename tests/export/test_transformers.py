"""Architectures of Hugging Face transformers, tiny and from a config: called and answered by name."""

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

import codeq
from codeq.quantizer.attach import quantized_weights
from export import check_parity, export_onnx, load_session


def vit() -> nn.Module:
    config = transformers.ViTConfig(
        image_size=8,
        patch_size=4,
        num_channels=1,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_labels=5,
    )
    return transformers.ViTForImageClassification(config)


def convnext() -> nn.Module:
    config = transformers.ConvNextConfig(
        num_channels=1, patch_size=2, num_stages=2, hidden_sizes=[8, 16], depths=[1, 1], num_labels=5
    )
    return transformers.ConvNextForImageClassification(config)


def mobilenet() -> nn.Module:
    config = transformers.MobileNetV2Config(num_channels=1, image_size=16, depth_multiplier=0.1, num_labels=5)
    network = transformers.MobileNetV2ForImageClassification(config)
    network.mobilenet_v2.layer = network.mobilenet_v2.layer[:2]  # of sixteen blocks
    network.mobilenet_v2.conv_1x1.convolution = nn.Conv2d(8, 1280, 1, bias=False)
    return network


def bert(attention: str = "sdpa") -> nn.Module:
    config = transformers.BertConfig(
        attn_implementation=attention,
        vocab_size=30,
        max_position_embeddings=8,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    return transformers.BertModel(config)


IDS, MASK = torch.randint(30, (6, 8), generator=torch.Generator().manual_seed(5)), torch.ones(6, 8, dtype=torch.int64)
MASK[:3, 5:] = 0

# Factory, inputs, the file's outputs, and how many layers of a kind become integer kernels.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], dict[str, Tensor], list[str], dict[str, int]]] = {
    "vit": (vit, {"pixel_values": torch.rand(6, 1, 8, 8)}, ["logits"], {"QLinearConv": 1, "QGemm": 7, "QLinearAdd": 0}),
    "convnext": (
        convnext,
        {"pixel_values": torch.rand(6, 1, 8, 8)},
        ["logits"],
        {"QLinearConv": 4, "QGemm": 5, "QLinearAdd": 0},
    ),
    "mobilenet": (
        mobilenet,
        {"pixel_values": torch.rand(6, 1, 16, 16)},
        ["logits"],
        {"QLinearConv": 10, "QGemm": 1, "QLinearGlobalAveragePool": 1},
    ),
    "bert": (
        bert,
        {"attention_mask": MASK, "input_ids": IDS},
        ["last_hidden_state", "pooler_output"],
        {"QGemm": 7},
    ),
    # The mask is added to the scores as the least float32 there is.
    "bert, eager": (
        lambda: bert("eager"),
        {"attention_mask": MASK, "input_ids": IDS},
        ["last_hidden_state", "pooler_output"],
        {"QGemm": 7, "QLinearAdd": 0, "QLinearMatMul": 1},
    ),
}


SHOWN = ("vit", "int8")


@pytest.mark.slow("a network of transformers")
@pytest.mark.parametrize(
    ("name", "activations"),
    [
        pytest.param(*row, marks=[] if row == SHOWN else pytest.mark.full)
        for row in product(NETWORKS, ("float32", "int8"))
    ],
)
def test_a_transformers_network_is_exported(name: str, activations: Any, tmp_path: Path) -> None:
    factory, inputs, outputs, counts = NETWORKS[name]
    model = factory().eval()
    codeq.attach(model, 4)
    for weight in quantized_weights(model):
        nn.init.constant_(weight.quantizer.theta_dz, 0.5)
    path = tmp_path / "net.onnx"
    report = export_onnx(model, inputs, path, activations=activations)
    assert report.verdict.ok
    assert 0.7 < sum(weight.sparsity for weight in report.weights) / len(report.weights) < 0.95
    session = load_session(path)
    assert {item.name for item in session.get_inputs()} == set(inputs)
    assert [item.name for item in session.get_outputs()] == outputs
    if name.startswith("bert"):  # called in another order
        assert check_parity(path, model, {"input_ids": IDS[:2], "attention_mask": MASK[:2]}).ok
    if activations == "int8":
        kernels = [kernel.kernel for kernel in report.kernels]
        assert {kernel: kernels.count(kernel) for kernel in counts} == counts
        assert all(kernel.reason for kernel in report.kernels if not kernel.is_integer)
        assert report.verdict.signal is not None
        assert all(output.decibels > 20 for output in report.verdict.signal.outputs)
