"""Layers of networks that are not ours: weight-only and int8 files of each, mostly zeros, held to their contracts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import codeq
from codeq.quantizer.attach import quantized_weights
from export import Report, export_onnx


class Net(nn.Module):
    """Named layers, and what is done with them."""

    def __init__(self, body: Callable[..., Any], **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.body = body

    def forward(self, *tensors: Tensor) -> Any:
        return self.body(self, *tensors)


def tied_embedding() -> nn.Module:
    net = Net(lambda m, ids: m.head(F.relu(m.fc(m.embedding(ids)))), fc=nn.Linear(16, 16), head=nn.Linear(16, 20))
    net.embedding = nn.Embedding(20, 16)
    net.head.weight = net.embedding.weight
    return net


def tied() -> nn.Module:
    net = Net(lambda m, x: m.second(F.relu(m.first(x))), first=nn.Linear(16, 16), second=nn.Linear(16, 16))
    net.second.weight = net.first.weight
    return net


def attention(*, batch_first: bool = True, **options: Any) -> nn.Module:
    def body(m: Net, x: Tensor, *others: Tensor) -> Tensor:
        inputs = [x, *others] if batch_first else [tensor.transpose(0, 1) for tensor in (x, *others)]
        y = m.attention(*(inputs if others else inputs * 3))[0]
        return m.head(y if batch_first else y.transpose(0, 1))

    layer = nn.MultiheadAttention(16, 4, batch_first=batch_first, **options)
    return Net(body, attention=layer, head=nn.Linear(16, 8))


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, activation="gelu")
    stack = nn.TransformerEncoder(layer, 1)
    return Net(lambda m, x, padding: m.encoder(x, src_key_padding_mask=padding), encoder=stack)


def heads(m: Net, x: Tensor) -> Tensor:
    q, k, v = (layer(x).unflatten(-1, (4, 4)).transpose(1, 2) for layer in (m.q, m.k, m.v))
    return m.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))


def prelu() -> nn.Module:
    return nn.Sequential(nn.Conv2d(4, 8, 3), nn.PReLU(8), nn.Conv2d(8, 4, 1), nn.PReLU(), nn.Conv2d(4, 4, 1))


def resized(m: Net, x: Tensor) -> Tensor:
    y = F.interpolate(m.first(x), size=x.shape[-2:], mode="bilinear", align_corners=False)
    return m.third(F.interpolate(m.second(y), scale_factor=2))


def shuffled() -> nn.Module:
    convolutions = nn.Conv2d(4, 16, 3), nn.Conv2d(4, 4, 1), nn.Conv2d(16, 4, 1)
    return nn.Sequential(convolutions[0], nn.PixelShuffle(2), convolutions[1], nn.PixelUnshuffle(2), convolutions[2])


def concatenated(m: Net, x: Tensor) -> Tensor:
    y = F.relu(m.down(x))
    y = F.relu(m.middle(y))
    return m.out(torch.cat([F.relu(m.up(y)), x, m.same(x)], 1))


class Regions(nn.Module):
    """As some transformers do for a part that must not run in half precision."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            x = F.relu(self.second(F.relu(self.first(x))))
        with torch.no_grad():
            x = x + x.amax(1, keepdim=True)
        return self.third(x)


IMAGES = (6, 4, 9, 9)
SEQUENCES = (6, 5, 16)
MASK = torch.arange(5).repeat(6, 1) > 2
TRANSPOSED = {"0": "there is no integer kernel for it"}
SOFTMAX = "softmax: 8 bits lose accuracy here"

# Factory, inputs (shapes of random ones), layers with integer kernels, and what stays float with its reason.
LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[Any, ...], set[str], dict[str, str]]] = {
    "tied_embedding": (
        tied_embedding,
        (torch.randint(20, (6, 5)),),
        {"fc", "head"},
        {"embedding": "it looks up a table of floats"},
    ),
    "tied": (tied, ((6, 16),), {"first", "second"}, {}),
    "called_twice": (
        lambda: Net(lambda m, x: m.fc(F.relu(m.fc(x))), fc=nn.Linear(16, 16)),
        ((6, 16),),
        {"fc", "fc_1"},
        {},
    ),
    "conv_transpose1d": (
        lambda: nn.Sequential(
            nn.ConvTranspose1d(4, 6, 3, 2, 1, 1, groups=2), nn.BatchNorm1d(6), nn.ReLU(), nn.Conv1d(6, 4, 3)
        ),
        ((6, 4, 9),),
        {"3"},
        TRANSPOSED,
    ),
    "conv_transpose2d": (
        lambda: nn.Sequential(
            nn.ConvTranspose2d(4, 6, 3, 2, dilation=2), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3)
        ),
        (IMAGES,),
        {"3"},
        TRANSPOSED,
    ),
    "grouped_depthwise_dilated": (
        lambda: nn.Sequential(
            nn.Conv2d(4, 8, 3, groups=2, padding=1, padding_mode="reflect", bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU6(),
            nn.Conv2d(8, 8, 3, groups=8, dilation=2, padding="same"),
        ),
        (IMAGES,),
        {"0", "3"},
        {},
    ),
    "conv1d": (
        lambda: nn.Sequential(
            nn.Conv1d(4, 8, 3, dilation=2, padding="same"), nn.BatchNorm1d(8), nn.GELU(), nn.Conv1d(8, 4, 3, groups=4)
        ),
        ((6, 4, 16),),
        {"0", "3"},
        {"2": "there is no integer kernel for it"},
    ),
    "conv3d": (
        lambda: nn.Sequential(nn.Conv3d(2, 8, 3), nn.BatchNorm3d(8), nn.ReLU(), nn.Conv3d(8, 4, 2, groups=4)),
        ((6, 2, 5, 5, 5),),
        {"0", "3"},
        {},
    ),
    "attention": (attention, (SEQUENCES,), {"attention.linear", "attention.linear_1", "head"}, {}),
    "attention_sequence_first": (
        lambda: attention(batch_first=False, add_bias_kv=True),
        (SEQUENCES,),
        {"attention.linear", "attention.linear_1", "head"},
        {"attention.softmax": "8 bits lose accuracy here"},
    ),
    "attention_of_other_widths": (
        lambda: attention(kdim=12, vdim=10),
        (SEQUENCES, (6, 7, 12), (6, 7, 10)),
        {"attention.linear", "attention.linear_1", "attention.linear_2", "attention.linear_3", "head"},
        {},
    ),
    "cross_attention": (
        attention,
        (SEQUENCES, (6, 7, 16), (6, 7, 16)),
        {"attention.linear_3", "head"},
        {"attention.linear_1": "its weight is computed from a quantized one"},
    ),
    "encoder_with_padding": (
        encoder,
        (SEQUENCES, MASK),
        {"encoder.layers.0.self_attn.linear", "encoder.layers.0.linear1", "encoder.layers.0.linear2"},
        {"encoder.layers.0.self_attn.scaled_dot_product_attention": SOFTMAX},
    ),
    "scaled_dot_product_attention": (
        lambda: Net(heads, q=nn.Linear(16, 16), k=nn.Linear(16, 16), v=nn.Linear(16, 16), out=nn.Linear(16, 16)),
        (SEQUENCES,),
        {"q", "k", "v", "out"},
        {"scaled_dot_product_attention": SOFTMAX},
    ),
    "norms": (
        lambda: nn.Sequential(
            nn.Conv2d(4, 8, 3), nn.GroupNorm(2, 8), nn.SiLU(), nn.Conv2d(8, 7, 1), nn.LayerNorm(7), nn.Linear(7, 4)
        ),
        (IMAGES,),
        {"0", "3", "5"},
        {"1": "8 bits lose accuracy here", "4": "8 bits lose accuracy here"},
    ),
    "prelu": (prelu, (IMAGES,), {"0", "2", "4"}, {"1": "there is no integer kernel for it"}),
    "resized": (
        lambda: Net(resized, first=nn.Conv2d(4, 8, 3, 2), second=nn.Conv2d(8, 4, 1), third=nn.Conv2d(4, 2, 1)),
        (IMAGES,),
        {"first", "second", "third"},
        {"upsample_bilinear2d": "there is no rule for it"},
    ),
    "shuffled": (shuffled, (IMAGES,), {"0", "2", "4"}, {}),
    "concatenated": (
        lambda: Net(
            concatenated,
            down=nn.Conv2d(4, 8, 3, 3),
            middle=nn.Conv2d(8, 8, 1),
            up=nn.ConvTranspose2d(8, 4, 3, 3),
            same=nn.Conv2d(4, 4, 3, padding=1),
            out=nn.Conv2d(12, 4, 1),
        ),
        (IMAGES,),
        {"down", "middle", "same", "out"},
        {"up": "there is no integer kernel for it"},
    ),
    "dropout_in_place": (
        lambda: nn.Sequential(nn.Conv2d(4, 8, 9), nn.Flatten(), nn.Dropout(0.2, inplace=True), nn.Linear(8, 4)),
        (IMAGES,),
        {"0", "3"},
        {},
    ),
    "relu_before_a_float_layer": (
        lambda: nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Softmax(1)),
        ((6, 16),),
        {"0"},
        {"2": "8 bits lose accuracy here"},
    ),
    "regions": (Regions, ((6, 16),), {"first", "second", "third"}, {"amax": "there is no rule for it"}),
}


@pytest.fixture
def export(tmp_path: Path) -> Callable[[str, str], tuple[Report, onnx.ModelProto]]:
    """A file of one of the networks above, attached, its weights mostly zeros."""

    @torch.no_grad()
    def run(name: str, activations: str) -> tuple[Report, onnx.ModelProto]:
        factory, shapes, _, _ = LAYERS[name]
        model = factory()
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                nn.init.normal_(module.weight)
                module.running_mean = torch.randn(module.num_features)
                module.running_var = torch.rand(module.num_features) + 0.5
        codeq.attach(model, 4)
        for weight in quantized_weights(model):
            weight.original.normal_(0, float(weight.original.std()))
            weight.quantizer.theta_dz.fill_(0.5)
        inputs = tuple(item if isinstance(item, Tensor) else torch.randn(item) for item in shapes)
        path = tmp_path / "net.onnx"
        report = export_onnx(model.eval(), inputs, path, activations=activations, storage="dense")  # type: ignore[arg-type]
        assert report.verdict.ok, report.verdict
        zeros = sum(weight.sparsity * weight.float32_bytes for weight in report.weights)
        assert 0.7 < zeros / sum(weight.float32_bytes for weight in report.weights) < 0.95
        return report, onnx.load(path)

    return run


# Weight-only files of the others are made in test_onnx.py.
FLOAT = [name for name in LAYERS if name not in ("called_twice", "conv1d", "conv3d", "attention", "norms")]


@pytest.mark.parametrize("name", FLOAT)
def test_a_file_with_float_activations(name: str, export: Callable[..., tuple[Report, onnx.ModelProto]]) -> None:
    report, proto = export(name, "float32")
    stored = [weight for weight in report.weights if weight.storage == "dense"]
    codes = [tensor for tensor in proto.graph.initializer if tensor.name.endswith("_quantized")]
    assert sorted(tensor.name for tensor in codes) == sorted(f"{weight.name}_quantized" for weight in stored)
    shared = {"tied": ["second.weight"]}
    assert [weight.name for weight in report.weights if weight.storage == "shared"] == shared.get(name, [])
    if name != "tied_embedding":  # whose table stays float
        assert max(np.prod(t.dims) for t in proto.graph.initializer if t.data_type == onnx.TensorProto.FLOAT) <= 100


@pytest.mark.parametrize("name", LAYERS)
def test_a_file_with_integer_kernels(name: str, export: Callable[..., tuple[Report, onnx.ModelProto]]) -> None:
    report, _ = export(name, "int8")
    _, _, integer, reasons = LAYERS[name]
    kernels = {kernel.name: kernel for kernel in report.kernels}
    assert integer <= {kernel.name for kernel in report.kernels if kernel.is_integer}, report.kernels
    assert {name: kernels[name].reason for name in reasons} == reasons
    assert all(kernel.reason for kernel in report.kernels if not kernel.is_integer)


@pytest.mark.parametrize("batch_first", [True, False])
def test_torchs_fused_attention_computes_with_quantized_weights(batch_first: bool) -> None:
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=batch_first).eval()
    x = torch.randn(3, 5, 16)
    with torch.no_grad():
        plain = layer(x)
        codeq.attach(layer, 2)
        fused = layer(x)
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            expected = layer(x)
        finally:
            torch.backends.mha.set_fastpath_enabled(True)
    torch.testing.assert_close(fused, expected)
    assert not torch.allclose(plain, expected, atol=1e-2)
