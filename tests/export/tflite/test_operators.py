"""Every other operator, as floats and on codes: LiteRT against PyTorch. What it must refuse says why."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

IMAGE = (3, 9, 7)
Forward = Callable[[Any, Tensor], Tensor]

ELEMENTWISE: dict[str, Forward] = {
    "relu": lambda m, x: F.relu(x),
    "relu6": lambda m, x: F.relu6(x),
    "hardtanh": lambda m, x: F.hardtanh(x),
    "hardtanh of other limits": lambda m, x: F.hardtanh(x, -0.3, 0.7),
    "clamp below": lambda m, x: x.clamp(min=0.1),
    "sigmoid": lambda m, x: x.sigmoid(),
    "silu": lambda m, x: F.silu(x),
    "tanh": lambda m, x: x.tanh(),
    "gelu": lambda m, x: F.gelu(x),
    "gelu by tanh": lambda m, x: F.gelu(x, approximate="tanh"),
    "hardswish": lambda m, x: F.hardswish(x),
    "leaky relu": lambda m, x: F.leaky_relu(x, 0.2),
    "softmax of channels": lambda m, x: x.softmax(1),
    "softmax of a row": lambda m, x: x.softmax(-1),
    "number": lambda m, x: 2 * x + 0.5,
    "sub": lambda m, x: x - x.mean((2, 3), keepdim=True),
    "per channel": lambda m, x: x * m.factor,
    "batch norm": lambda m, x: m.norm(x),
    "layer norm": lambda m, x: m.layer(x),
    "matmul": lambda m, x: x.matmul(x.transpose(-1, -2)),
    "attention": lambda m, x: F.scaled_dot_product_attention(x, x, 2 * x),
    "causal attention": lambda m, x: F.scaled_dot_product_attention(x, x, x, is_causal=True),
    "attention with a mask": lambda m, x: F.scaled_dot_product_attention(
        x, x, x, attn_mask=(torch.arange(9) < 5).expand(x.shape[0], 1, 9, 9)
    ),
    "attention with a bias": lambda m, x: F.scaled_dot_product_attention(x, x, x, attn_mask=m.layer.weight[:, :1] * 3),
}
SHAPES: dict[str, Forward] = {
    "permute": lambda m, x: x.permute(0, 3, 1, 2) + 0.0,
    "flatten channels": lambda m, x: x.flatten(2).transpose(1, 2) + 0.0,
    "reshape": lambda m, x: x.reshape(-1, 21, 9) + 0.0,
    "unsqueeze and squeeze": lambda m, x: (x.unsqueeze(1) + 0.0).squeeze(1) + 0.0,
    "pad": lambda m, x: F.pad(x, (1, 0, 2, 3)),
    "pad with a number": lambda m, x: F.pad(x, (1, 0), value=1.5),
    "slice": lambda m, x: x[:, :, 1::2, :-1] + 0.0,
    "select": lambda m, x: x[:, -1] + 0.0,
    "split": lambda m, x: x.split([1, 2], 1)[1] + 0.0,
    "unbind": lambda m, x: x.unbind(2)[4] + 0.0,
    "cat": lambda m, x: torch.cat([x, 2 * x], 1),
    "cat rows": lambda m, x: torch.cat([x, x.relu()], 2),
    "numbers of a batch": lambda m, x: x + torch.full((x.shape[0], 1, 1, 1), 0.5),
    "class token": lambda m, x: torch.cat([m.token.expand(x.shape[0], -1, -1, -1), x], 1),
}
RESIZES: dict[str, Forward] = {
    "nearest, twice": lambda m, x: F.interpolate(x, scale_factor=2),
    "nearest, a size": lambda m, x: F.interpolate(x, size=(13, 4)),
    "nearest, exact": lambda m, x: F.interpolate(x, size=(13, 4), mode="nearest-exact"),
    "bilinear": lambda m, x: F.interpolate(x, size=(13, 4), mode="bilinear"),
    "bilinear, twice": lambda m, x: F.interpolate(x, scale_factor=(2, 3), mode="bilinear"),
    "bilinear, corners": lambda m, x: F.interpolate(x, size=(18, 5), mode="bilinear", align_corners=True),
}
POOLS: dict[str, Forward] = {
    "max": lambda m, x: F.max_pool2d(x, 2),
    "max with padding": lambda m, x: F.max_pool2d(x, 3, stride=2, padding=1),
    "max behind relu": lambda m, x: F.max_pool2d(x.relu(), 3, stride=2, padding=1),
    "average": lambda m, x: F.avg_pool2d(x, (2, 3), stride=1),
    "average with zeros": lambda m, x: F.avg_pool2d(x, 3, stride=2, padding=1),
    "average without zeros": lambda m, x: F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False),
    "whole": lambda m, x: F.adaptive_avg_pool2d(x, 1),
    "whole as a window": lambda m, x: F.avg_pool2d(x, (9, 7)),
    "windows": lambda m, x: F.adaptive_avg_pool2d(x, (3, 7)),
    "mean of channels": lambda m, x: x.mean(1),
    "mean of columns": lambda m, x: x.mean(-1, keepdim=True),
}
REFUSED: dict[str, tuple[Forward, str]] = {
    "windows that differ": (lambda m, x: F.adaptive_avg_pool2d(x, 3), "its windows differ in size"),
    "dilated pool": (lambda m, x: F.max_pool2d(x, 2, dilation=2), "its windows are dilated"),
    "cut windows": (lambda m, x: F.max_pool2d(x, 3, ceil_mode=True), "its last windows are cut off"),
    "divisor": (lambda m, x: F.avg_pool2d(x, 2, divisor_override=3), "it divides by another number"),
    "alpha": (lambda m, x: torch.add(x, x, alpha=2), "it scales its second operand"),
    "reflection": (lambda m, x: F.pad(x, (1, 1, 0, 0), mode="reflect"), "its mode is reflect"),
    "a computed mask": (
        lambda m, x: F.scaled_dot_product_attention(x, x, x, attn_mask=x.matmul(x.transpose(-1, -2))),
        "its mask depends on the input",
    ),
    "a query without keys": (
        lambda m, x: F.scaled_dot_product_attention(x, x, x, attn_mask=torch.ones(8, 8).tril(-1) > 0),
        "its mask leaves a query without keys",
    ),
    "other pixels": (lambda m, x: F.interpolate(x, scale_factor=1.3), "LiteRT would read other pixels"),
    "other weights": (
        lambda m, x: F.interpolate(x, scale_factor=1.3, mode="bilinear"),
        "LiteRT would weight pixels otherwise",
    ),
    "bicubic": (lambda m, x: F.interpolate(x, size=(5, 5), mode="bicubic"), "has no lowering to LiteRT"),
    "uncounted": (
        lambda m, x: F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)[:, :, :, 1:],
        "its padding is not counted",
    ),
    "a number per place in the batch": (
        lambda m, x: x + torch.arange(x.shape[0])[:, None, None, None] * 1.0,
        "which differs among the inputs of a batch but not by them",
    ),
    "two sizes of the batch": (
        lambda m, x: (x.flatten(1) @ x.flatten(1).t()).unsqueeze(1) + 0.0,
        "two of its sizes depend on the batch, which a .tflite file cannot hold",
    ),
    "no lowering": (lambda m, x: x.cumsum(1), "cumsum: has no lowering to LiteRT"),
}


class Factor(nn.Module):
    """A convolution, so that activations are quantized, and the constants of the operators above."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.factor = nn.Parameter(torch.randn(3, 1, 1))
        self.token = nn.Parameter(torch.randn(1, 1, 9, 7))
        self.norm = nn.BatchNorm2d(3)
        self.layer = nn.LayerNorm([9, 7])


@pytest.fixture
def run(export: Any) -> Any:
    def call(forward: Forward, activations: str = "float32", **options: Any) -> Any:
        return export(lambda m, x: forward(m.parts, m.parts.conv(x)), IMAGE, activations, parts=Factor(), **options)

    return call


OTHER_LIMITS = [ELEMENTWISE["hardtanh of other limits"], ELEMENTWISE["clamp below"]]
ALL = ELEMENTWISE | SHAPES | POOLS | RESIZES


@pytest.mark.parametrize("forward", ALL.values(), ids=ALL)
def test_float(run: Any, forward: Forward) -> None:
    assert run(forward).verdict.ok


@pytest.mark.parametrize("forward", ALL.values(), ids=ALL)
def test_codes(run: Any, forward: Forward) -> None:
    report = run(forward, "int8")
    # Limits that no operator applies itself are applied to floats.
    assert report.kernels.get("parts.conv") == (None if forward in OTHER_LIMITS else "CONV_2D")


@pytest.mark.parametrize(("forward", "reason"), REFUSED.values(), ids=REFUSED)
def test_refused(refused: Any, forward: Forward, reason: str) -> None:
    assert reason in refused(lambda m, x: forward(m, m.conv(x)), (3, 8, 8), conv=nn.Conv2d(3, 3, 3, padding=1))


ON_CODES: dict[str, tuple[Forward, str]] = {
    "add": (lambda m, x: m.one(x) + m.two(x), "ADD"),
    "add with relu": (lambda m, x: F.relu(m.one(x) + m.two(x)), "ADD"),
    "mul": (lambda m, x: m.three(m.one(x) * m.two(x)), "MUL"),
    "pool": (lambda m, x: m.three(F.adaptive_avg_pool2d(m.one(x), 1)), "MEAN"),
    "concatenation of grids": (lambda m, x: m.six(torch.cat([F.relu(m.one(x)), m.two(x)], 1)), "CONCATENATION"),
    "concatenation": (lambda m, x: m.six(torch.cat([m.one(x), m.two(x)], 1)), "CONCATENATION"),
    "max pool": (lambda m, x: m.three(F.max_pool2d(m.one(x), 3, 2, 1)), "CONV_2D"),
    "relu6": (lambda m, x: m.three(F.relu6(4 * m.one(x))), "CONV_2D"),
}


@pytest.mark.parametrize(("forward", "code"), ON_CODES.values(), ids=ON_CODES)
def test_no_code_differs(export: Any, forward: Forward, code: str) -> None:
    """Operators on codes follow the rules of the integer reference without exception."""
    used = {name: layer for name, layer in LAYERS.items() if name in forward.__code__.co_names}
    report = export(forward, (3, 10, 8), "int8", **used)
    assert code in report.kernels.values()
    assert not sum(check.differing for check in report.verdict.layers if check.kernel != "float")


LAYERS: dict[str, nn.Module] = {
    "one": nn.Conv2d(3, 4, 3, padding=1),
    "two": nn.Conv2d(3, 4, 1),
    "three": nn.Conv2d(4, 5, 1),
    "six": nn.Conv2d(8, 5, 1),
}


@pytest.mark.parametrize("activations", ["float32", "int8"])
def test_a_flattened_image_is_not_transposed(export: Any, activations: str) -> None:
    """The linear layer's columns are put in the image's order; its codes are those of the checkpoint, moved."""
    report = export(
        lambda m, x: m.fc(F.relu(m.conv(x)).flatten(1)),
        IMAGE,
        activations,
        conv=nn.Conv2d(3, 5, 3),
        fc=nn.Linear(175, 4),
        layout="nhwc",
    )
    assert "TRANSPOSE" not in report.operators
    assert all(check.ok for check in report.verdict.weights)


def test_a_flattened_image_that_others_read_is(export: Any) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        flat = m.conv(x).flatten(1)
        return m.fc(flat) + flat[:, :4]

    report = export(forward, IMAGE, conv=nn.Conv2d(3, 5, 3), fc=nn.Linear(175, 4), layout="nhwc")
    assert report.operators["TRANSPOSE"] == 1


def test_layers_that_are_left_out_stay_float(export: Any) -> None:
    report = export(
        lambda m, x: m.two(m.one(x)),
        IMAGE,
        "int8",
        one=nn.Conv2d(3, 4, 3),
        two=nn.Conv2d(4, 4, 3),
        exclude=("two",),
    )
    assert report.kernels == {"one": "CONV_2D"}
    assert report.float_layers["two"] == "excluded"
