"""Operators, layers and small networks, and what each backend makes of them: one table for tests/export/test_cases.py.

    Case(what it guards, network, inputs, onnx=..., tflite=...)

A backend's entry says what its int8 file computes on codes: kernels by layer, `"float"` where a layer must stay float,
`"float: reason"` where the reason must be this one; layers that are not named may be either. `{}` asks for parity
alone. `Refused("text")` is an export that must end in one line with this text, and None a backend that the case says
nothing about. Weight-only files must hold parity too, on the paper's grid where `paper` says so.

`shown` are the runs of the tier `test`; the full tier has all of them.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Shape = tuple[int, ...]
Body = Callable[..., Any]


class Net(nn.Module):
    """Layers by name, and what is done with them."""

    def __init__(self, body: Body, **layers: nn.Module | nn.Parameter) -> None:
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.body = body

    def forward(self, *tensors: Tensor) -> Any:
        return self.body(self, *tensors)


@dataclass(frozen=True)
class Refused:
    """An export that must fail with one line that contains this text."""

    reason: str


Kernels = Mapping[str, str]
Expected = Kernels | Refused | None


@dataclass(frozen=True)
class Case:
    """One network and what is expected of it.

    Args:
        guards: What goes wrong where this case is missing.
        network: Makes it; random weights come from the test's seed.
        inputs: A tensor, or the shape of a random one, per argument; the batch comes first.
        onnx, tflite: See above.
        paper: Weight-only files on the paper's grid, too.
        dead_zone: theta of the quantizers, with which most weights are zeros; None leaves what `attach` gives.
        operators: Counts in the weight-only .tflite file.
        storages: Of the weights in the weight-only .onnx file, in order.
        opset: Of the weight-only .onnx file.
        folded: BatchNorms that are folded.
        refused: Runs that must be refused, where the other modes of a backend are not.
        shown: Runs that the tier `test` has, such as "onnx-int8".
    """

    guards: str
    network: Callable[[], nn.Module]
    inputs: tuple[Shape | Tensor, ...]
    onnx: Expected = field(default_factory=dict)
    tflite: Expected = field(default_factory=dict)
    paper: bool = False
    dead_zone: float | None = None
    operators: Mapping[str, int] = field(default_factory=dict)
    storages: tuple[str, ...] | None = None
    opset: int | None = None
    folded: int | None = None
    refused: Mapping[str, Refused] = field(default_factory=dict)
    shown: tuple[str, ...] = ()


CASES: dict[str, Case] = {}


def add(name: str, case: Case) -> None:
    assert name not in CASES, name
    CASES[name] = case


# 1. Operators between a convolution and a layer that reads their result as codes.

READ_LAYERS: dict[str, Callable[[], nn.Module]] = {
    "conv": lambda: nn.Conv2d(3, 8, 3, padding=1),
    "grouped": lambda: nn.Conv2d(8, 8, 3, padding=1, groups=2),
    "depthwise": lambda: nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8),
    "dilated": lambda: nn.Conv2d(8, 4, 3, dilation=2, padding="same"),
    "norm": lambda: nn.BatchNorm2d(8),
    "reader": lambda: nn.Conv2d(8, 6, 1),
    "transposed": lambda: nn.ConvTranspose2d(8, 8, 2, stride=2),
    "wider": lambda: nn.ConvTranspose2d(8, 8, 3, (2, 1), (1, 0), (1, 0)),
    "longer": lambda: nn.ConvTranspose1d(8, 8, 2, 3, output_padding=1),
    "conv1d": lambda: nn.Conv1d(8, 6, 3, padding=1),
    "conv3d": lambda: nn.Conv3d(1, 4, 3, padding=1),
    "fc": lambda: nn.Linear(8, 5),
    "wide": lambda: nn.Linear(8, 8),
}


SELDOM = [
    "relu6",
    "hardtanh",
    "batch_norm",
    "add_in_place",
    "sigmoid",
    "leaky_relu",
    "avg_pool_padded",
    "adaptive_pool",
    "mean",
    "cat_with_the_input",
    "scaled_add_in_place",
    "unbind",
    "largest",
    "pad_channels",
    "slice",
    "chunk",
    "pixel_shuffle",
    "pool_over_time",
    "gelu",
    "constant",
    "picked along an axis",
    "picked on two axes",
    "each input's own",
    "smallest, kept",
    "largest of windows that differ",
    "largest of a row's windows",
    "means of a sequence",
    "nearest, exact",
    "nearest of a row, exact",
    "turned",
    "diagonal",
    "largest values",
    "few windows",
    "patches",
    "patches side by side",
    "patches of a transformer",
]
"""What another case of this kind shows as well: in the tier `full` alone."""


def read(
    name: str,
    guards: str,
    body: Body,
    onnx: Expected,
    tflite: Expected = None,
) -> None:
    """A case whose layers are those of READ_LAYERS that the body names."""

    def network() -> nn.Module:
        return Net(body, **{layer: make() for layer, make in READ_LAYERS.items() if layer in body.__code__.co_names})

    expected = {} if tflite is None else tflite
    shown = () if name in SELDOM else ("onnx-int8",)
    add(f"{name}, read", Case(guards, network, ((8, 3, 12, 12),), onnx, expected, shown=shown))


TRANSPOSED = "float: onnxruntime computes it in float, with the exact weight, between codes"
MIXED = "float: it mixes pixels as floats, between codes"
BOTH = {"conv": "QLinearConv", "reader": "QLinearConv"}
CLAMPED = "a clamp is the saturation of the grid behind it"
read("relu", CLAMPED, lambda m, x: m.reader(F.relu(m.conv(x))), BOTH, {"conv": "CONV_2D", "reader": "CONV_2D"})
read("relu6", CLAMPED, lambda m, x: m.reader(F.relu6(m.conv(x))), BOTH)
read("hardtanh", CLAMPED, lambda m, x: m.reader(F.hardtanh(m.conv(x), 0.0, 0.5)), {"conv": "QLinearConv"})
read("clamp", CLAMPED, lambda m, x: m.reader(m.conv(x).clamp(-0.2, 0.3)), {"conv": "QLinearConv"})
read("batch_norm", "it is folded", lambda m, x: m.reader(F.relu(m.norm(m.conv(x)))), {"conv": "QLinearConv"})
read("grouped", "groups on codes", lambda m, x: m.grouped(m.conv(x)), {"grouped": "QLinearConv"})
read(
    "depthwise",
    "one channel a group, with a stride",
    lambda m, x: m.depthwise(F.relu(m.conv(x))),
    {"depthwise": "QLinearConv"},
)
read("dilated", "padding='same'", lambda m, x: m.dilated(F.relu(m.conv(x))), {"dilated": "QLinearConv"})
read(
    "transposed",
    "a transposed convolution stays float between codes in onnxruntime",
    lambda m, x: m.reader(m.transposed(m.conv(x))),
    {
        "transposed": TRANSPOSED,
        "reader": "QLinearConv",
    },
    {"conv": "CONV_2D", "transposed": "TRANSPOSE_CONV", "reader": "CONV_2D"},
)
read(
    "transposed, cut",
    "what its padding cuts off is cut off codes, behind its clamp",
    lambda m, x: m.reader(m.wider(m.conv(x)).clamp(0, 6)),
    {"wider": TRANSPOSED, "reader": "QLinearConv"},
    {"wider": "TRANSPOSE_CONV", "reader": "CONV_2D"},
)
read(
    "transposed_row",
    "a sequence is an image of one row, and the kernel does not reach its end",
    lambda m, x: m.conv1d(F.relu(m.longer(m.conv(x).flatten(2)))),
    {"longer": TRANSPOSED, "conv1d": "QLinearConv"},
    {"longer": "TRANSPOSE_CONV", "conv1d": "CONV_2D"},
)
read("conv1d", "one dimension", lambda m, x: m.conv1d(m.conv(x).flatten(2)), {"conv1d": "QLinearConv"})
read(
    "conv3d",
    "three dimensions",
    lambda m, x: m.conv3d(m.conv(x).unsqueeze(1)),
    {"conv3d": "QLinearConv"},
    Refused("conv3d: conv3d: has no lowering to LiteRT"),
)
read(
    "add",
    "two grids meet",
    lambda m, x: m.reader(F.relu(m.conv(x)) + m.conv(x)),
    {"add": "QLinearAdd"},
)
read(
    "add_broadcast",
    "a sum of an image and a number per channel",
    lambda m, x: m.reader((y := m.conv(x)) + F.adaptive_avg_pool2d(y, 1)),
    {"add": "QLinearAdd", "adaptive_avg_pool2d": "QLinearGlobalAveragePool"},
)
read(
    "add_in_place",
    "writes into a tensor that nobody else reads",
    lambda m, x: m.reader(m.conv(x).add_(F.relu(m.grouped(m.conv(x))))),
    {"add": "QLinearAdd"},
)
read(
    "mul",
    "a product of codes",
    lambda m, x: m.reader((y := F.relu(m.conv(x))) * y.sigmoid()),
    {"mul": "QLinearMul"},
)
read("sigmoid", "a table of codes", lambda m, x: m.reader(m.conv(x).sigmoid()), {"sigmoid": "QLinearSigmoid"})
read(
    "silu",
    "one operator that becomes two kernels",
    lambda m, x: m.reader(F.silu(m.conv(x))),
    {"conv": "QLinearConv", "sigmoid": "QLinearSigmoid", "mul": "QLinearMul"},
)
read(
    "leaky_relu",
    "its slope",
    lambda m, x: m.reader(F.leaky_relu(m.conv(x), 0.1)),
    {"leaky_relu": "QLinearLeakyRelu"},
)
read(
    "squeeze_excite",
    "the blocks of MobileNetV3 and EfficientNet",
    lambda m, x: m.reader((y := F.relu(m.conv(x))) * torch.sigmoid(m.grouped(y.mean((2, 3), keepdim=True)))),
    {"mul": "QLinearMul", "adaptive_avg_pool2d": "QLinearGlobalAveragePool", "grouped": "QLinearConv"},
)
read(
    "max_pool",
    "codes are compared as they are",
    lambda m, x: m.reader(F.max_pool2d(m.conv(x), 3, 2, 1)),
    {"reader": "QLinearConv"},
)
read(
    "avg_pool",
    "a mean of codes",
    lambda m, x: m.reader(F.avg_pool2d(m.conv(x), 2)),
    {"avg_pool2d": "QLinearAveragePool"},
)
read(
    "avg_pool_padded",
    "padding that does not count",
    lambda m, x: m.reader(F.avg_pool2d(m.conv(x), 3, 2, 1, count_include_pad=False)),
    {"avg_pool2d": "QLinearAveragePool"},
    {"conv": "CONV_2D"},
)
read(
    "adaptive_pool",
    "windows of one size",
    lambda m, x: m.reader(F.adaptive_avg_pool2d(m.conv(x), 3)),
    {"adaptive_avg_pool2d": "QLinearAveragePool"},
)
read(
    "mean",
    "a mean over the image is a pool",
    lambda m, x: m.fc(m.conv(x).mean([2, 3])),
    {"adaptive_avg_pool2d": "QLinearGlobalAveragePool", "fc": "QGemm"},
)
read(
    "cat",
    "a slice and a layer share a grid",
    lambda m, x: m.reader(torch.cat([F.relu(m.conv(x))[:, :4], m.dilated(m.conv(x))], 1)),
    {"reader": "QLinearConv"},
)
read(
    "cat_of_relu_and_others",
    "grids that differ are brought to one",
    lambda m, x: m.reader(torch.cat([F.relu(m.conv(x)), m.dilated(m.conv(x))], 1)[:, 2:10]),
    {"conv": "QLinearConv", "cat": "QLinearConcat", "reader": "QLinearConv"},
)
read(
    "cat_with_the_input",
    "the input's grid is given",
    lambda m, x: m.reader(torch.cat([x, F.relu(m.conv(x))], 1)[:, 1:9]),
    {"conv": "QLinearConv", "cat": "QLinearConcat"},
)
read(
    "cat_of_floats",
    "floats beside codes",
    lambda m, x: m.reader(F.hardswish(torch.cat([F.hardswish(y := m.conv(x)), y], 1))[:, 4:12]),
    {"conv": "QLinearConv", "hardswish_1": "float"},
)
read(
    "scaled_add_in_place",
    "alpha has no kernel",
    lambda m, x: m.reader(m.conv(x).add_(x[:, :1], alpha=0.5)),
    {"add": "float"},
    Refused("it scales its second operand (alpha)"),
)
read(
    "unbind",
    "many results of one operator",
    lambda m, x: m.fc(torch.cat(m.wide(m.conv(x).flatten(2).mT).unflatten(2, (2, 4)).unbind(2)[::-1], 2)),
    {"wide": "QGemm", "fc": "QGemm"},
    {},
)
read(
    "split",
    "unequal parts in another order",
    lambda m, x: m.reader(torch.cat(m.conv(x).split([3, 5], 1)[::-1], 1)),
    {"reader": "QLinearConv"},
)
read(
    "largest",
    "the first of two results",
    lambda m, x: m.fc(m.conv(x).flatten(2).max(2)[0]),
    {"conv": "QLinearConv", "fc": "QGemm"},
    {"conv": "CONV_2D"},
)
read(
    "sequence_first",
    "the batch is not the first dimension inside",
    lambda m, x: m.fc(F.relu(m.wide(m.conv(x).flatten(2).permute(2, 0, 1)))).permute(1, 0, 2),
    {"wide": "QGemm", "fc": "QGemm"},
)
read(
    "pad", "zeros are the zero point", lambda m, x: m.reader(F.pad(m.conv(x), (1, 0, 2, 0))), {"reader": "QLinearConv"}
)
read(
    "pad_channels",
    "padding that no convolution has",
    lambda m, x: m.reader(F.pad(m.dilated(m.conv(x)), (0, 0, 0, 0, 1, 3))),
    {"reader": "QLinearConv"},
)
read("slice", "steps", lambda m, x: m.reader(m.conv(x)[:, :, ::2, 1:]), {"reader": "QLinearConv"})
read(
    "chunk",
    "equal parts in another order",
    lambda m, x: m.reader(torch.cat(m.conv(x).chunk(2, 1)[::-1], 1)),
    {"reader": "QLinearConv"},
)
read(
    "shuffle",
    "ShuffleNet's channels",
    lambda m, x: m.reader(m.conv(x).unflatten(1, (2, 4)).transpose(1, 2).flatten(1, 2)),
    {"reader": "QLinearConv"},
)
read(
    "pixel_shuffle",
    "channels become pixels",
    lambda m, x: m.reader(F.pixel_unshuffle(F.pixel_shuffle(m.conv(x), 2), 2)),
    {"reader": "QLinearConv"},
    {"conv": "CONV_2D", "reader": "CONV_2D"},
)
read(
    "upsample",
    "pixels are repeated",
    lambda m, x: m.reader(F.interpolate(m.conv(x), scale_factor=2.0)),
    {"reader": "QLinearConv"},
)
read(
    "bilinear",
    "pixels are mixed, as floats in onnxruntime",
    lambda m, x: m.reader(F.interpolate(m.conv(x), scale_factor=2.0, mode="bilinear")),
    {"upsample_bilinear2d": MIXED, "reader": "QLinearConv"},
    {"conv": "CONV_2D", "upsample_bilinear2d": "RESIZE_BILINEAR", "reader": "CONV_2D"},
)
read(
    "linear of a row",
    "a sequence is an image of one row",
    lambda m, x: m.conv1d(F.interpolate(m.conv(x).flatten(2), scale_factor=2, mode="linear")),
    {"upsample_bilinear2d": MIXED, "conv1d": "QLinearConv"},
    {"upsample_bilinear2d": "RESIZE_BILINEAR", "conv1d": "CONV_2D"},
)
read(
    "bilinear, corners",
    "another rule of places, smaller along one axis",
    lambda m, x: m.reader(F.interpolate(F.relu(m.conv(x)), size=(7, 29), mode="bilinear", align_corners=True)),
    {"upsample_bilinear2d": MIXED, "reader": "QLinearConv"},
    {"upsample_bilinear2d": "RESIZE_BILINEAR", "reader": "CONV_2D"},
)
read(
    "bilinear, joined",
    "it keeps its operand's grid where both are joined, which starts at zero",
    lambda m, x: (
        m.fc(
            torch.cat([y := F.relu(m.conv(x)), F.interpolate(y, size=(12, 12), mode="bilinear")], 1)[:, ::2].mean(
                (2, 3)
            )
        )
        + m.fc(F.interpolate(y, size=1, mode="bilinear").flatten(1))
    ),
    {"conv": "QLinearConv", "fc_1": "QGemm"},
    {"conv": "CONV_2D"},
)
read(
    "bilinear, clamped",
    "a clamp behind it would need a grid of its own",
    lambda m, x: m.reader(F.relu(F.interpolate(m.conv(x), scale_factor=2.0, mode="bilinear"))),
    {"upsample_bilinear2d": "float: nothing that reads it computes in integers", "reader": "QLinearConv"},
    {"upsample_bilinear2d": "float", "relu": "float", "reader": "CONV_2D"},
)
read(
    "bilinear, otherwise rounded",
    "processors find other weights there: it is computed in float",
    lambda m, x: m.reader(F.interpolate(m.conv(x)[:, :, :7, :4], size=(387, 4), mode="bilinear")),
    {"upsample_bilinear2d": MIXED, "reader": "QLinearConv"},
    {"upsample_bilinear2d": "float: processors round its weights differently, or its grid is not its input's"},
)
read(
    "pool_over_time",
    "a pool of one dimension is one of two",
    lambda m, x: m.fc(F.adaptive_avg_pool1d(m.conv(x).flatten(2), 1).flatten(1)),
    {"conv": "QLinearConv", "adaptive_avg_pool2d": "QLinearGlobalAveragePool", "fc": "QGemm"},
)
read(
    "linear",
    "a linear layer on codes",
    lambda m, x: m.fc(F.relu(m.wide(m.conv(x).amax((2, 3))))),
    {"wide": "QGemm", "fc": "QGemm"},
    {"conv": "CONV_2D"},
)
read(
    "linear_tokens",
    "a linear layer on more than two dimensions",
    lambda m, x: m.fc(F.relu(m.wide(m.conv(x).flatten(2).transpose(1, 2)))),
    {"wide": "QGemm", "fc": "QGemm"},
)
read(
    "gelu",
    "floats between codes",
    lambda m, x: m.fc(F.gelu(m.wide(m.conv(x).flatten(2).transpose(1, 2)))),
    {"wide": "QGemm", "gelu": "float", "fc": "QGemm"},
)
read(
    "attention",
    "products of activations",
    lambda m, x: m.fc(((t := m.wide(m.conv(x).flatten(2).mT)) @ t.mT).softmax(-1) @ t),
    {"matmul": "MatMulIntegerToFloat", "softmax": "float", "matmul_1": "QLinearMatMul", "fc": "QGemm"},
    {},
)
read(
    "layer_norm",
    "8 bits would lose accuracy",
    lambda m, x: m.fc(F.layer_norm(m.conv(x).flatten(2).mT, (8,))),
    {"layer_norm": "float", "fc": "QGemm"},
    {},
)
read(
    "hardswish",
    "no kernel on codes",
    lambda m, x: m.reader(F.hardswish(m.conv(x))),
    {"conv": "QLinearConv", "hardswish": "float", "reader": "QLinearConv"},
)
read(
    "constant",
    "a number of the network's own",
    lambda m, x: m.reader(m.conv(x) + torch.ones(1)),
    {"add": "float", "reader": "QLinearConv"},
)
read(
    "two_readers",
    "a relu that cannot be the saturation of its input",
    lambda m, x: m.reader(F.relu(y := m.conv(x)) + y),
    {"conv": "QLinearConv", "relu": "float", "add": "QLinearAdd"},
)


# 2. Operators whose result is the network's: behind a convolution on an image that is not square.

LAST_LAYERS: dict[str, Callable[[], nn.Module | nn.Parameter]] = {
    "conv": lambda: nn.Conv2d(3, 3, 3, padding=1),
    "factor": lambda: nn.Parameter(torch.randn(3, 1, 1)),
    "token": lambda: nn.Parameter(torch.randn(1, 1, 9, 7)),
    "norm": lambda: nn.BatchNorm2d(3),
    "layer": lambda: nn.LayerNorm([9, 7]),
}


MOVED_CODES: dict[str, Body] = {
    "flip": lambda m, x: m.reader(m.conv(x).flip(2, 3)),
    "roll": lambda m, x: m.reader(m.conv(x).roll((2, -1), (2, 3))),
}
MOVED_CODES |= {
    "picked along an axis": lambda m, x: m.reader(m.conv(x).index_select(1, torch.arange(7, -1, -1))),
    "picked": lambda m, x: m.reader(m.conv(x)[:, [3, 1, 0, 2, 7, 6, 5, 4]][:, :, :, torch.arange(12) > 4]),
    "picked on two axes": lambda m, x: m.reader(m.conv(x)[:, :, [0, 2, 1, 5], [3, 8, 0, 1]].unsqueeze(3)),
    "each input's own": lambda m, x: m.reader(m.conv(x)[torch.arange(x.shape[0]), :, 5].unsqueeze(3)),
    "largest of an axis": lambda m, x: m.reader(m.conv(x).amax((2, 3), keepdim=True)),
    "largest values": lambda m, x: m.reader(m.conv(x).max(3)[0].unsqueeze(2)),
    "smallest, kept": lambda m, x: m.reader(m.conv(x).min(2, keepdim=True).values.amin(3, keepdim=True)),
    "largest of windows": lambda m, x: m.reader(F.adaptive_max_pool2d(m.conv(x), (3, 4))),
    "largest of windows that differ": lambda m, x: m.reader(F.adaptive_max_pool2d(m.conv(x), (5, 7))),
    "nearest, exact": lambda m, x: m.reader(F.interpolate(m.conv(x), size=(17, 5), mode="nearest-exact")),
}
for name, body in MOVED_CODES.items():
    read(name, "codes change places as they are", body, BOTH, {"conv": "CONV_2D", "reader": "CONV_2D"})
read(
    "means of a sequence",
    "a pool of one dimension has the rule of one of two",
    lambda m, x: m.conv1d(F.adaptive_avg_pool1d(F.avg_pool1d(m.conv(x).flatten(2), 3, 2, 1), 12)),
    {
        "conv": "QLinearConv",
        "avg_pool2d": "QLinearAveragePool",
        "adaptive_avg_pool2d": "QLinearAveragePool",
        "conv1d": "QLinearConv",
    },
    {"conv": "CONV_2D", "avg_pool2d": "float", "conv1d": "CONV_2D"},
)


def last(
    name: str,
    guards: str,
    operator: Body,
    onnx: Expected = None,
    tflite: Expected = None,
    *,
    image: Shape = (3, 9, 7),
    seldom: bool = False,
) -> None:
    """A case whose output is `operator(m, conv(x))`, one row of numbers per input: one argmax, not one per pixel."""

    def network() -> nn.Module:
        names = {"conv", *operator.__code__.co_names}
        layers = {layer: make() for layer, make in LAST_LAYERS.items() if layer in names}
        return Net(lambda m, x: flat(operator(m, m.conv(x))), **layers)

    kernels = {"conv": "CONV_2D"} if tflite is None else tflite
    shown = () if seldom else ("tflite-float32",) if isinstance(kernels, Refused) else ("tflite-int8",)
    add(f"{name}, last", Case(guards, network, ((8, *image),), {} if onnx is None else onnx, kernels, shown=shown))


def flat(x: Tensor) -> Tensor:
    """One row of numbers per input."""
    return x.flatten(1) if x.ndim > 2 else x


ELEMENTWISE = "what is computed from each number"
FLOAT = {"conv": "float"}  # limits that no operator of LiteRT applies itself are applied to floats
last("relu", ELEMENTWISE, lambda m, x: F.relu(x))
last("relu6", ELEMENTWISE, lambda m, x: F.relu6(x))
last("hardtanh", ELEMENTWISE, lambda m, x: F.hardtanh(x))
last("hardtanh of other limits", ELEMENTWISE, lambda m, x: F.hardtanh(x, -0.3, 0.7), tflite=FLOAT)
last("clamp below", ELEMENTWISE, lambda m, x: x.clamp(min=0.1), tflite=FLOAT)
last("sigmoid", ELEMENTWISE, lambda m, x: x.sigmoid())
last("silu", ELEMENTWISE, lambda m, x: F.silu(x))
last("tanh", ELEMENTWISE, lambda m, x: x.tanh())
last("gelu", ELEMENTWISE, lambda m, x: F.gelu(x))
last("gelu by tanh", ELEMENTWISE, lambda m, x: F.gelu(x, approximate="tanh"))
last("hardswish", ELEMENTWISE, lambda m, x: F.hardswish(x))
last("leaky relu", ELEMENTWISE, lambda m, x: F.leaky_relu(x, 0.2))
AXES = "an axis means another one in LiteRT's order"
last("softmax of channels", AXES, lambda m, x: x.softmax(1))
last("softmax of a row", AXES, lambda m, x: x.softmax(-1))
last("number", "constants", lambda m, x: 2 * x + 0.5)
last("sub", "a mean is taken off", lambda m, x: x - x.mean((2, 3), keepdim=True))
last("per channel", AXES, lambda m, x: x * m.factor)
last("batch norm", "it is folded", lambda m, x: m.norm(x))
last("layer norm", AXES, lambda m, x: m.layer(x))
ATTENTION = "products of two activations, and masks"
last("matmul", ATTENTION, lambda m, x: x.matmul(x.transpose(-1, -2)))
last("attention", ATTENTION, lambda m, x: F.scaled_dot_product_attention(x, x, 2 * x))
last("causal attention", ATTENTION, lambda m, x: F.scaled_dot_product_attention(x, x, x, is_causal=True))
last(
    "attention with a mask",
    ATTENTION,
    lambda m, x: F.scaled_dot_product_attention(x, x, x, attn_mask=(torch.arange(9) < 5).expand(x.shape[0], 1, 9, 9)),
)
last(
    "attention with a bias",
    ATTENTION,
    lambda m, x: F.scaled_dot_product_attention(x, x, x, attn_mask=m.layer.weight[:, :1] * 3),
)
last("permute", AXES, lambda m, x: x.permute(0, 3, 1, 2) + 0.0)
last("flatten channels", AXES, lambda m, x: x.flatten(2).transpose(1, 2) + 0.0)
last("reshape", AXES, lambda m, x: x.reshape(-1, 21, 9) + 0.0)
last("unsqueeze and squeeze", AXES, lambda m, x: (x.unsqueeze(1) + 0.0).squeeze(1) + 0.0)
last("pad", "zeros are the zero point", lambda m, x: F.pad(x, (1, 0, 2, 3)))
last("pad with a number", "a number is a code", lambda m, x: F.pad(x, (1, 0), value=1.5))
last("slice", AXES, lambda m, x: x[:, :, 1::2, :-1] + 0.0)
last("select", AXES, lambda m, x: x[:, -1] + 0.0)
last("split", AXES, lambda m, x: x.split([1, 2], 1)[1] + 0.0)
last("unbind", AXES, lambda m, x: x.unbind(2)[4] + 0.0)
last("cat", AXES, lambda m, x: torch.cat([x, 2 * x], 1))
last("cat rows", AXES, lambda m, x: torch.cat([x, x.relu()], 2))
BATCH = "the batch of a .tflite file is 1 until it is resized"
last("numbers of a batch", BATCH, lambda m, x: x + torch.full((x.shape[0], 1, 1, 1), 0.5))
last("class token", BATCH, lambda m, x: torch.cat([m.token.expand(x.shape[0], -1, -1, -1), x], 1))
PIXELS = "which pixels are read, and how they are weighted"
last("nearest, twice", PIXELS, lambda m, x: F.interpolate(x, scale_factor=2))
last("nearest, a size", PIXELS, lambda m, x: F.interpolate(x, size=(13, 4)))
last("nearest, exact", PIXELS, lambda m, x: F.interpolate(x, size=(13, 4), mode="nearest-exact"))
last("bilinear", PIXELS, lambda m, x: F.interpolate(x, size=(13, 4), mode="bilinear"))
last("bilinear, twice", PIXELS, lambda m, x: F.interpolate(x, scale_factor=(2, 3), mode="bilinear"))
last("bilinear, corners", PIXELS, lambda m, x: F.interpolate(x, size=(18, 5), mode="bilinear", align_corners=True))
WINDOWS = "the windows of a pool, and what counts in them"
last("max", WINDOWS, lambda m, x: F.max_pool2d(x, 2))
last("max with padding", WINDOWS, lambda m, x: F.max_pool2d(x, 3, stride=2, padding=1))
last("max behind relu", WINDOWS, lambda m, x: F.max_pool2d(x.relu(), 3, stride=2, padding=1))
last("average", WINDOWS, lambda m, x: F.avg_pool2d(x, (2, 3), stride=1))
last("average with zeros", WINDOWS, lambda m, x: F.avg_pool2d(x, 3, stride=2, padding=1))
last("average without zeros", WINDOWS, lambda m, x: F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False))
last("whole", WINDOWS, lambda m, x: F.adaptive_avg_pool2d(x, 1))
last("whole as a window", WINDOWS, lambda m, x: F.avg_pool2d(x, (9, 7)))
last("windows", WINDOWS, lambda m, x: F.adaptive_avg_pool2d(x, (3, 7)))
last("mean of channels", AXES, lambda m, x: x.mean(1))
last("mean of columns", AXES, lambda m, x: x.mean(-1, keepdim=True))

# What LiteRT computes otherwise than PyTorch, or not at all.
SQUARE = (3, 8, 8)
PARITY = Refused("parity does not hold: ")
ONNX_REFUSALS = {
    "a query without keys": PARITY,
    "a number per place in the batch": PARITY,
    "two sizes of the batch": Refused("depends on the batch: alone, an input gives another answer"),
}
REFUSALS: dict[str, tuple[Body, str]] = {
    "alpha": (lambda m, x: torch.add(x, x, alpha=2), "it scales its second operand"),
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
    "a number per place in the batch": (
        lambda m, x: x + torch.arange(x.shape[0])[:, None, None, None] * 1.0,
        "which differs among the inputs of a batch but not by them",
    ),
    "two sizes of the batch": (
        lambda m, x: (x.flatten(1) @ x.flatten(1).t()).unsqueeze(1) + 0.0,
        "two of its sizes depend on the batch, which a .tflite file cannot hold",
    ),
    "no lowering": (lambda m, x: x.erf(), "erf: has no lowering to LiteRT"),
}
USUAL = ("alpha", "a query without keys", "no lowering")
for name, (operator, reason) in REFUSALS.items():
    last(
        name,
        "a wrong answer is not written",
        operator,
        ONNX_REFUSALS.get(name),
        Refused(reason),
        image=SQUARE,
        seldom=name not in USUAL,
    )


# 3. Operators on codes alone, from layer to layer: LiteRT follows the integer reference without exception.

CODES_LAYERS: dict[str, Callable[[], nn.Module]] = {
    "one": lambda: nn.Conv2d(3, 4, 3, padding=1),
    "two": lambda: nn.Conv2d(3, 4, 1),
    "three": lambda: nn.Conv2d(4, 5, 1),
    "six": lambda: nn.Conv2d(8, 5, 1),
}


def on_codes(name: str, body: Body, tflite: Kernels, onnx: Expected = None) -> None:
    def network() -> nn.Module:
        names = body.__code__.co_names
        return Net(lambda m, x: flat(body(m, x)), **{n: make() for n, make in CODES_LAYERS.items() if n in names})

    guards = "rounding of codes, where nothing is computed in float"
    add(f"{name}, on codes", Case(guards, network, ((8, 3, 10, 8),), onnx or {}, tflite, shown=("tflite-int8",)))


on_codes("add", lambda m, x: m.three(m.one(x) + m.two(x)), {"add": "ADD"})
on_codes("add with relu", lambda m, x: m.three(F.relu(m.one(x) + m.two(x))), {"add": "ADD"})
on_codes("mul", lambda m, x: m.three(m.one(x) * m.two(x)), {"mul": "MUL"})
on_codes("pool", lambda m, x: m.three(F.adaptive_avg_pool2d(m.one(x), 1)), {"adaptive_avg_pool2d": "MEAN"})
on_codes(
    "concatenation of grids", lambda m, x: m.six(torch.cat([F.relu(m.one(x)), m.two(x)], 1)), {"cat": "CONCATENATION"}
)
on_codes("concatenation", lambda m, x: m.six(torch.cat([m.one(x), m.two(x)], 1)), {"two": "CONV_2D", "six": "CONV_2D"})
on_codes("max pool", lambda m, x: m.three(F.max_pool2d(m.one(x), 3, 2, 1)), {"one": "CONV_2D", "three": "CONV_2D"})
on_codes("relu6", lambda m, x: m.three(F.relu6(4 * m.one(x))), {"three": "CONV_2D"})


# 4. Convolutions alone.

CONVOLUTIONS: dict[str, tuple[Callable[[], nn.Module], Shape, str]] = {
    "plain": (lambda: nn.Conv2d(3, 5, 3), (3, 9, 7), "CONV_2D"),
    "one channel": (lambda: nn.Conv2d(1, 1, 3, padding=1), (1, 9, 7), "CONV_2D"),
    "stride 2, symmetric": (lambda: nn.Conv2d(3, 5, 3, stride=2, padding=1), (3, 8, 9), "CONV_2D"),
    "stride 3 leaves pixels": (lambda: nn.Conv2d(3, 5, 3, stride=3, padding=1), (3, 11, 10), "CONV_2D"),
    "unequal": (lambda: nn.Conv2d(3, 5, (3, 1), stride=(1, 2), padding=(2, 0)), (3, 6, 9), "CONV_2D"),
    "dilated": (lambda: nn.Conv2d(3, 5, 3, dilation=2, padding=2), (3, 9, 7), "CONV_2D"),
    "same, even kernel": (lambda: nn.Conv2d(3, 5, 4, padding="same"), (3, 9, 7), "CONV_2D"),
    "no bias": (lambda: nn.Conv2d(3, 5, 3, bias=False), (3, 9, 7), "CONV_2D"),
    "grouped": (lambda: nn.Conv2d(4, 6, 3, groups=2, padding=1), (4, 9, 7), "CONV_2D"),
    "depthwise": (lambda: nn.Conv2d(4, 4, 3, groups=4, stride=2, padding=1), (4, 9, 8), "DEPTHWISE_CONV_2D"),
    "depthwise, multiplied": (lambda: nn.Conv2d(4, 8, 3, groups=4, padding=1), (4, 9, 7), "DEPTHWISE_CONV_2D"),
    "sequence": (lambda: nn.Conv1d(4, 6, 5, stride=2, padding=2), (4, 11), "CONV_2D"),
    "depthwise sequence": (lambda: nn.Conv1d(4, 4, 3, groups=4, dilation=2), (4, 11), "DEPTHWISE_CONV_2D"),
}
for name, (layer, shape, code) in CONVOLUTIONS.items():
    add(
        f"convolution: {name}",
        Case(
            "padding, strides and the order of a weight's axes",
            lambda layer=layer: Net(lambda m, x: m.conv(x).flatten(1), conv=layer()),
            ((8, *shape),),
            {"conv": "QLinearConv"},
            {"conv": code},
            operators={code: 1, "DEQUANTIZE": 1},
            shown=("tflite-int8", "tflite-float32"),
        ),
    )
add(
    "convolution: three dimensions",
    Case(
        "LiteRT has no such operator that PyTorch agrees with",
        lambda: Net(lambda m, x: m.conv(x).flatten(1), conv=nn.Conv3d(1, 2, 3)),
        ((8, 1, 5, 5, 5),),
        {"conv": "QLinearConv"},
        Refused("conv: conv3d: has no lowering to LiteRT (LiteRT has operators on volumes for CONV_3D alone"),
        shown=("tflite-float32",),
    ),
)


# 5. Recurrent layers: every output and every final state.

RECURRENT: dict[str, tuple[type[nn.RNNBase], dict[str, Any]]] = {
    "gru": (nn.GRU, {}),
    "gru, both directions, two layers": (nn.GRU, {"num_layers": 2, "bidirectional": True}),
    "gru without biases": (nn.GRU, {"bias": False}),
    "lstm": (nn.LSTM, {}),
    "lstm, both directions, two layers": (nn.LSTM, {"num_layers": 2, "bidirectional": True}),
    "rnn": (nn.RNN, {}),
    "rnn with relu": (nn.RNN, {"nonlinearity": "relu"}),
}
STEPS = 4


def _states(m: Any, x: Tensor) -> Tensor:
    outputs, final = m.cell(x)
    kinds = final if isinstance(final, tuple) else (final,)
    return m.fc(torch.cat([outputs.flatten(1), *(kind.transpose(0, 1).flatten(1) for kind in kinds)], 1))


def _recurrent(kind: type[nn.RNNBase], options: dict[str, Any]) -> nn.Module:
    cell = kind(3, 5, batch_first=True, **options)
    directions, kinds = (2 if cell.bidirectional else 1), (2 if kind is nn.LSTM else 1)
    width = directions * cell.hidden_size * (STEPS + kinds * cell.num_layers)
    return Net(_states, cell=cell, fc=nn.Linear(width, 6))


for name, (kind, options) in RECURRENT.items():
    add(
        f"recurrent: {name}",
        Case(
            "the order of gates, and which state is the last",
            lambda kind=kind, options=options: _recurrent(kind, options),
            ((8, STEPS, 3),),
            shown=("tflite-int8", "tflite-float32"),
        ),
    )
add(
    "recurrent: sequence first",
    Case(
        "the batch is not the first dimension inside",
        lambda: Net(lambda m, x: m.fc(m.cell(x.transpose(0, 1))[0][-1]), cell=nn.GRU(3, 5), fc=nn.Linear(5, 6)),
        ((8, STEPS, 3),),
        shown=("tflite-float32",),
    ),
)
add(
    "recurrent: one step",
    Case(
        "a sequence of one",
        lambda: Net(lambda m, x: m.fc(m.cell(x)[0][:, 0]), cell=nn.GRU(3, 5, batch_first=True), fc=nn.Linear(5, 6)),
        ((8, 1, 3),),
        shown=("tflite-float32",),
    ),
)


# 6. Networks that are not ours, most of their weights zeros. Layers without a name are numbered.

SEQUENCES = (6, 5, 16)
IMAGES = (6, 4, 9, 9)
MASK = torch.arange(5).repeat(6, 1) > 2
TOKENS = torch.arange(30).reshape(6, 5) * 7 % 20
SOFTMAX = "float: softmax: 8 bits lose accuracy here"
NORMS = "float: 8 bits lose accuracy here"


def foreign(
    name: str,
    guards: str,
    network: Callable[[], nn.Module],
    inputs: tuple[Shape | Tensor, ...],
    onnx: Expected = None,
    tflite: Expected = None,
    *,
    dead_zone: float | None = 0.5,
    shown: tuple[str, ...] = ("onnx-int8",),
    **more: Any,
) -> None:
    add(f"network: {name}", Case(guards, network, inputs, onnx or {}, tflite, dead_zone=dead_zone, shown=shown, **more))


def _tied_embedding() -> nn.Module:
    net = Net(lambda m, ids: m.head(F.relu(m.fc(m.embedding(ids)))), fc=nn.Linear(16, 16), head=nn.Linear(16, 20))
    net.embedding = nn.Embedding(20, 16)
    net.head.weight = net.embedding.weight
    return net


def _tied(width: int = 16, *, bias: bool = True) -> nn.Module:
    first, second = nn.Linear(width, width, bias=bias), nn.Linear(width, width, bias=bias)
    second.weight = first.weight
    return Net(lambda m, x: m.second(F.relu(m.first(x))), first=first, second=second)


def _attention(*, batch_first: bool = True, **options: Any) -> nn.Module:
    def body(m: Any, x: Tensor, *others: Tensor) -> Tensor:
        inputs = [x, *others] if batch_first else [tensor.transpose(0, 1) for tensor in (x, *others)]
        y = m.attention(*(inputs if others else inputs * 3))[0]
        return m.head(y if batch_first else y.transpose(0, 1))

    layer = nn.MultiheadAttention(16, 4, batch_first=batch_first, **options)
    return Net(body, attention=layer, head=nn.Linear(16, 8))


def _encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, activation="gelu")
    stack = nn.TransformerEncoder(layer, 1)
    return Net(lambda m, x, padding: m.encoder(x, src_key_padding_mask=padding), encoder=stack)


def _heads(m: Any, x: Tensor) -> Tensor:
    q, k, v = (layer(x).unflatten(-1, (4, 4)).transpose(1, 2) for layer in (m.q, m.k, m.v))
    return m.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))


def _resized(m: Any, x: Tensor) -> Tensor:
    y = F.interpolate(m.first(x), size=x.shape[-2:], mode="bilinear", align_corners=False)
    return m.third(F.interpolate(m.second(y), scale_factor=2))


def _concatenated(m: Any, x: Tensor) -> Tensor:
    y = F.relu(m.down(x))
    y = F.relu(m.middle(y))
    return m.out(torch.cat([F.relu(m.up(y)), x, m.same(x)], 1))


def _regions(m: Any, x: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        x = F.relu(m.second(F.relu(m.first(x))))
    with torch.no_grad():
        x = x + x.amax(1, keepdim=True)
    return m.third(x)


def _equal_layers() -> nn.Module:
    layer = nn.Linear(16, 16)
    return nn.Sequential(layer, nn.ReLU(), copy.deepcopy(layer))


def _zero_layers() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3))
    for layer in model:
        nn.init.zeros_(layer.weight)
    return model


def _two_inputs(m: Any, a: Tensor, b: Tensor) -> dict[str, Tensor]:
    y = F.relu(m.left(a) + m.right(b))
    return {"features": y, "best": y.argmax(1)}


def _pooled(m: Any, x: Tensor) -> Tensor:
    left, right = F.interpolate(m.conv(x), scale_factor=2).chunk(2, 1)
    return left.mean((2, 3)) + right.amax((2, 3))


SHARED = "a weight of two layers is stored once"
foreign(
    "tied_embedding",
    "a table and a layer share a weight; the table stays float",
    _tied_embedding,
    (TOKENS,),
    {"fc": "QGemm", "head": "QGemm", "embedding": "float: it looks up a table of floats"},
)
foreign(
    "largest_token",
    "the largest of integers is one",
    lambda: Net(
        lambda m, ids: m.fc(m.table(ids.amax(1)) + m.table(ids).amin(1)),
        table=nn.Embedding(20, 16),
        fc=nn.Linear(16, 4),
    ),
    (TOKENS,),
    {"fc": "QGemm"},
    {},
    shown=(),
)
foreign("tied", SHARED, _tied, ((6, 16),), {"first": "QGemm", "second": "QGemm"}, storages=("dense", "shared"))
foreign(
    "tied_without_bias",
    SHARED,
    lambda: _tied(40, bias=False),
    ((3, 40),),
    paper=True,
    storages=("dense", "shared"),
    shown=("onnx-paper",),
)
foreign(
    "called_twice",
    "one layer at two places, with a grid each",
    lambda: Net(lambda m, x: m.fc(F.relu(m.fc(x))), fc=nn.Linear(16, 16)),
    ((6, 16),),
    {"fc": "QGemm", "fc_1": "QGemm"},
)
foreign(
    "called_twice_around_a_norm",
    "a BatchNorm must not be folded into a weight that another call reads",
    lambda: Net(lambda m, x: m.fc(m.norm(m.fc(x))), fc=nn.Linear(40, 40), norm=nn.BatchNorm1d(40)),
    ((3, 40),),
    paper=True,
    shown=("onnx-paper",),
)
foreign(
    "conv_transpose1d",
    "its weight has the channels the other way round, here in groups",
    lambda: nn.Sequential(
        nn.ConvTranspose1d(4, 6, 3, 2, 1, 1, groups=2), nn.BatchNorm1d(6), nn.ReLU(), nn.Conv1d(6, 4, 3)
    ),
    ((6, 4, 9),),
    {"3": "QLinearConv", "0": "float: it is a transposed convolution in groups"},
)
foreign(
    "conv_transpose2d",
    "its weight has the channels the other way round",
    lambda: nn.Sequential(nn.ConvTranspose2d(4, 6, 3, 2, dilation=2), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3)),
    (IMAGES,),
    {"3": "QLinearConv", "0": TRANSPOSED},
)
foreign(
    "grouped_depthwise_dilated",
    "padding_mode, BatchNorm without a bias before it, relu6",
    lambda: nn.Sequential(
        nn.Conv2d(4, 8, 3, groups=2, padding=1, padding_mode="reflect", bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        nn.Conv2d(8, 8, 3, groups=8, dilation=2, padding="same"),
    ),
    (IMAGES,),
    {"0": "QLinearConv", "3": "QLinearConv"},
)
foreign(
    "conv1d",
    "one dimension, with a BatchNorm",
    lambda: nn.Sequential(
        nn.Conv1d(4, 8, 3, dilation=2, padding="same"), nn.BatchNorm1d(8), nn.GELU(), nn.Conv1d(8, 4, 3, groups=4)
    ),
    ((6, 4, 16),),
    {"0": "QLinearConv", "3": "QLinearConv", "2": "float: there is no integer kernel for it"},
    paper=True,
    folded=1,
)
foreign(
    "conv3d",
    "three dimensions, with a BatchNorm",
    lambda: nn.Sequential(nn.Conv3d(2, 8, 3), nn.BatchNorm3d(8), nn.ReLU(), nn.Conv3d(8, 4, 2, groups=4)),
    ((6, 2, 5, 5, 5),),
    {"0": "QLinearConv", "3": "QLinearConv"},
    paper=True,
    folded=1,
)
foreign(
    "attention",
    "in_proj_weight is one weight of three layers",
    _attention,
    (SEQUENCES,),
    {"attention.linear": "QGemm", "attention.linear_1": "QGemm", "head": "QGemm"},
    {},
)
foreign(
    "attention_sequence_first",
    "the batch is not the first dimension inside, and keys have a bias",
    lambda: _attention(batch_first=False, add_bias_kv=True),
    (SEQUENCES,),
    {"attention.linear": "QGemm", "attention.linear_1": "QGemm", "head": "QGemm", "attention.softmax": NORMS},
    shown=(),
)
foreign(
    "attention_of_other_widths",
    "three weights instead of in_proj_weight",
    lambda: _attention(kdim=12, vdim=10),
    (SEQUENCES, (6, 7, 12), (6, 7, 10)),
    {f"attention.{name}": "QGemm" for name in ("linear", "linear_1", "linear_2", "linear_3")} | {"head": "QGemm"},
    shown=(),
)
foreign(
    "cross_attention",
    "a part of in_proj_weight is a computed weight",
    _attention,
    (SEQUENCES, (6, 7, 16), (6, 7, 16)),
    {
        "attention.linear_3": "QGemm",
        "head": "QGemm",
        "attention.linear_1": "float: its weight is computed from a quantized one",
    },
    shown=(),
)
foreign(
    "attention_residual",
    "a sum and a LayerNorm, which needs opset 17",
    lambda: Net(
        lambda m, x: m.norm(x + m.attention(x, x, x, need_weights=False)[0]),
        attention=nn.MultiheadAttention(16, 4, batch_first=True),
        norm=nn.LayerNorm(16),
    ),
    ((3, 5, 16),),
    paper=True,
    shown=("onnx-paper",),
)
foreign(
    "encoder_with_padding",
    "a mask as a second input",
    _encoder,
    (SEQUENCES, MASK),
    {
        "encoder.layers.0.self_attn.linear": "QGemm",
        "encoder.layers.0.linear1": "QGemm",
        "encoder.layers.0.linear2": "QGemm",
        "encoder.layers.0.self_attn.scaled_dot_product_attention": SOFTMAX,
    },
    shown=(),
)
foreign(
    "encoder_layer",
    "a whole layer of a transformer, and a mean over its tokens",
    lambda: Net(
        lambda m, x: m.fc(m.layer(x).mean(1)),
        layer=nn.TransformerEncoderLayer(16, 2, 32, batch_first=True),
        fc=nn.Linear(16, 5),
    ),
    ((6, 7, 16),),
    {"fc": "QGemm"},
    shown=(),
)
foreign(
    "encoder_copies",
    "nn.TransformerEncoder's layers begin with equal weights",
    lambda: nn.TransformerEncoder(
        nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2, enable_nested_tensor=False
    ),
    ((3, 5, 16),),
    paper=True,
    shown=(),
)
foreign(
    "scaled_dot_product_attention",
    "attention written by hand",
    lambda: Net(_heads, q=nn.Linear(16, 16), k=nn.Linear(16, 16), v=nn.Linear(16, 16), out=nn.Linear(16, 16)),
    (SEQUENCES,),
    {"q": "QGemm", "k": "QGemm", "v": "QGemm", "out": "QGemm", "scaled_dot_product_attention": SOFTMAX},
)
foreign(
    "attention_of_images",
    "attention whose operands are images",
    lambda: Net(lambda m, x: F.scaled_dot_product_attention(y := m.conv(x), y, y), conv=nn.Conv2d(4, 8, 1)),
    ((3, 4, 6, 6),),
    paper=True,
    shown=("onnx-paper",),
)
foreign(
    "norms",
    "norms between integer layers",
    lambda: nn.Sequential(
        nn.Conv2d(4, 8, 3), nn.GroupNorm(2, 8), nn.SiLU(), nn.Conv2d(8, 7, 1), nn.LayerNorm(7), nn.Linear(7, 4)
    ),
    (IMAGES,),
    {"0": "QLinearConv", "3": "QLinearConv", "5": "QGemm", "1": NORMS, "4": NORMS},
)
foreign(
    "group_norm",
    "a GroupNorm needs no opset above 13",
    lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8)),
    ((3, 3, 9, 9),),
    paper=True,
    opset=13,
    shown=("onnx-paper",),
)
foreign(
    "prelu",
    "a float layer between integer ones",
    lambda: nn.Sequential(nn.Conv2d(4, 8, 3), nn.PReLU(8), nn.Conv2d(8, 4, 1), nn.PReLU(), nn.Conv2d(4, 4, 1)),
    (IMAGES,),
    {"0": "QLinearConv", "2": "QLinearConv", "4": "QLinearConv", "1": "float: there is no integer kernel for it"},
)
foreign(
    "resized",
    "resizing to the input's size, and twice",
    lambda: Net(_resized, first=nn.Conv2d(4, 8, 3, 2), second=nn.Conv2d(8, 4, 1), third=nn.Conv2d(4, 2, 1)),
    (IMAGES,),
    {
        "first": "QLinearConv",
        "second": "QLinearConv",
        "third": "QLinearConv",
        "upsample_bilinear2d": MIXED,
    },
)
foreign(
    "shuffled",
    "channels become pixels and back",
    lambda: nn.Sequential(
        nn.Conv2d(4, 16, 3), nn.PixelShuffle(2), nn.Conv2d(4, 4, 1), nn.PixelUnshuffle(2), nn.Conv2d(16, 4, 1)
    ),
    (IMAGES,),
    {"0": "QLinearConv", "2": "QLinearConv", "4": "QLinearConv"},
)
foreign(
    "concatenated",
    "a U-Net's level",
    lambda: Net(
        _concatenated,
        down=nn.Conv2d(4, 8, 3, 3),
        middle=nn.Conv2d(8, 8, 1),
        up=nn.ConvTranspose2d(8, 4, 3, 3),
        same=nn.Conv2d(4, 4, 3, padding=1),
        out=nn.Conv2d(12, 4, 1),
    ),
    (IMAGES,),
    dict.fromkeys(("down", "middle", "same", "out"), "QLinearConv") | {"up": TRANSPOSED},
)
foreign(
    "dropout_in_place",
    "an operator that does nothing writes in place",
    lambda: nn.Sequential(nn.Conv2d(4, 8, 9), nn.Flatten(), nn.Dropout(0.2, inplace=True), nn.Linear(8, 4)),
    (IMAGES,),
    {"0": "QLinearConv", "3": "QGemm"},
)
foreign(
    "relu_before_a_float_layer",
    "a relu that floats read",
    lambda: nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Softmax(1)),
    ((6, 16),),
    {"0": "QGemm", "2": NORMS},
)
foreign(
    "regions",
    "parts under autocast(enabled=False) and no_grad, as some transformers have them",
    lambda: Net(_regions, first=nn.Linear(16, 16), second=nn.Linear(16, 16), third=nn.Linear(16, 4)),
    ((6, 16),),
    {"first": "QGemm", "second": "QGemm", "third": "QGemm"},
)
foreign(
    "two_inputs_two_outputs",
    "a dictionary of outputs, one of them integer",
    lambda: Net(_two_inputs, left=nn.Linear(4, 8), right=nn.Linear(6, 8)),
    ((3, 4), (3, 6)),
    paper=True,
    shown=("onnx-paper",),
)
foreign(
    "depthwise_with_norm",
    "a BatchNorm folded into a depthwise weight",
    lambda: nn.Sequential(nn.Conv2d(4, 8, 3, groups=4, dilation=2), nn.BatchNorm2d(8)),
    ((3, 4, 9, 9),),
    paper=True,
    folded=1,
    shown=("onnx-paper",),
)
foreign(
    "transposed_with_norm",
    "a BatchNorm folded along the other axis",
    lambda: nn.Sequential(nn.ConvTranspose2d(4, 6, 3, stride=2), nn.BatchNorm2d(6)),
    ((3, 4, 5, 5),),
    paper=True,
    refused={"onnx-int8": Refused("no layer can compute in integers (0: nothing that reads it computes in integers")},
    shown=("onnx-paper",),
)
foreign(
    "grouped_transposed_with_norm",
    "a BatchNorm behind a transposed convolution in groups",
    lambda: nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=2), nn.BatchNorm2d(6)),
    ((3, 4, 5, 5),),
    paper=True,
    opset=13,
    refused={"onnx-int8": Refused("no layer can compute in integers (0: it is a transposed convolution in groups")},
    shown=("onnx-paper",),
)
foreign(
    "tokens",
    "linear layers on three dimensions, one without a bias",
    lambda: nn.Sequential(nn.Linear(16, 32), nn.LayerNorm(32), nn.Linear(32, 8, bias=False)),
    ((3, 5, 16),),
    paper=True,
    shown=("onnx-paper",),
)
foreign(
    "global_mean",
    "a mean over channels and pixels behind a folded BatchNorm",
    lambda: Net(
        lambda m, x: (y := m.norm(m.conv(x))) - y.mean((1, 2, 3), keepdim=True),
        conv=nn.Conv2d(3, 8, 3, padding="same"),
        norm=nn.BatchNorm2d(8),
    ),
    ((3, 3, 9, 9),),
    paper=True,
    folded=1,
    shown=("onnx-paper",),
)
for name, kind in {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}.items():
    foreign(
        name,
        "recurrent layers stay float, and their weights reach the graph transposed, as views",
        lambda kind=kind: Net(
            lambda m, x: m.fc(m.layer(x)[0][:, -1]), layer=kind(6, 8, batch_first=True), fc=nn.Linear(8, 4)
        ),
        ((3, 5, 6),),
        paper=True,
        shown=("onnx-paper",),
    )
foreign(
    "equal_layers",
    "the exporter merges equal weights",
    _equal_layers,
    ((3, 16),),
    paper=True,
    shown=("onnx-paper",),
)
foreign(
    "zero_layers",
    "two layers of zeros are equal weights",
    _zero_layers,
    ((3, 3, 9, 9),),
    None,
    paper=True,
    dead_zone=None,
    shown=("onnx-paper",),
)
foreign(
    "pooled",
    "operators that torch's exporter writes for opset 18 and older runtimes know in another form",
    lambda: Net(_pooled, conv=nn.Conv2d(3, 8, 1)),
    ((3, 3, 6, 6),),
    paper=True,
    opset=13,
    shown=("onnx-paper",),
)
foreign(
    "unused",
    "a layer that the network does not call",
    lambda: Net(lambda m, x: m.fc(x), fc=nn.Linear(4, 4), spare=nn.Linear(4, 4)),
    ((3, 4),),
    paper=True,
    storages=("dense", "unused"),
    shown=("onnx-paper",),
)
foreign(
    "one_input_only",
    "an example of one input",
    lambda: nn.Sequential(nn.Linear(4, 4)),
    ((1, 4),),
    paper=True,
    shown=("onnx-paper",),
)
foreign(
    "mlp",
    "a BatchNorm behind a linear layer",
    lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 32), nn.BatchNorm1d(32), nn.GELU()),
    ((3, 4, 4),),
    paper=True,
    folded=1,
    shown=("onnx-paper",),
)
foreign(
    "one_by_one_input",
    "an example of one input of one channel",
    lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.Softmax(1)),
    ((1, 1, 6, 6),),
    paper=True,
    shown=("onnx-paper",),
)


# 7. What people put between the layers: extreme values, zeros, casts that change nothing.

KEEP = torch.ones(8, 6)
KEEP[:4, 4:] = 0


def _masked(mask: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], nn.Module]:
    """Attention whose scores are masked by `mask(scores, keep)`."""

    def body(m: Any, x: Tensor, keep: Tensor) -> Tensor:
        scores = mask(torch.matmul(m.q(x), m.k(x).transpose(1, 2)) * 0.25, keep.unsqueeze(1))
        return m.out(scores.softmax(-1) @ m.v(x)).flatten(1)

    return lambda: Net(body, **{name: nn.Linear(16, 16) for name in ("q", "k", "v", "out")})


MASKED = "scores and a mask on one grid are nothing but the mask"
EXTREMES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "a mask of -10000": lambda scores, keep: scores + (keep - 1) * 10000.0,
    "a mask of the least float32": lambda scores, keep: scores + (keep - 1) * torch.finfo(torch.float32).max,
}
for name, mask in EXTREMES.items():
    add(
        f"extreme: {name}",
        Case(
            MASKED,
            _masked(mask),
            ((8, 6, 16), KEEP),
            {"add": "float: nothing that reads it computes in integers", "out": "QGemm"},
            {"q": "FULLY_CONNECTED", "add": "float: nothing that reads it computes in integers"},
            shown=("onnx-int8",) if "10000" in name else (),
        ),
    )
for name, mask in {
    "masked with infinity": lambda scores, keep: scores.masked_fill(keep == 0, -torch.inf),
    "where": lambda scores, keep: torch.where(keep > 0, scores, torch.finfo(torch.float32).min),
}.items():
    kernels = {"q": "FULLY_CONNECTED"}
    add(f"extreme: {name}", Case(MASKED, _masked(mask), ((8, 6, 16), KEEP), {"out": "QGemm"}, kernels))


def _bordered(m: Any, x: Tensor) -> Tensor:
    y = F.pad(m.one(x), (2, 2, 2, 2))
    return m.two(y * torch.rsqrt((y * y).mean(1, keepdim=True) + 1e-6)).flatten(1)


add(
    "extreme: a norm of nothing",
    Case(
        "a border of zeros makes one factor a thousand times the others",
        lambda: Net(_bordered, one=nn.Conv2d(3, 8, 3, padding=1), two=nn.Conv2d(8, 4, 3)),
        ((8, 3, 10, 10),),
        {"one": "QLinearConv", "mul_1": "float", "two": "QLinearConv"},
        {"one": "CONV_2D", "mul_1": "float", "two": "CONV_2D"},
        shown=("onnx-int8",),
    ),
)


def _conv_gru(m: Any, x: Tensor) -> Tensor:
    """Three steps of a convolutional GRU that starts with zeros; x is (N, T, C, H, W)."""
    h = torch.zeros(x.shape[0], 8, x.shape[3], x.shape[4])
    for step in range(x.shape[1]):
        frame = x[:, step]
        z, r = torch.sigmoid(m.gates(frame) + m.kept(h)).chunk(2, 1)
        new = torch.tanh(m.state(torch.cat([frame, r * h], 1)))
        h = h + z * (new - h)
    return m.out(h).flatten(1)


def _with(layer: nn.Module, **values: float) -> nn.Module:
    """The layer with its parameters filled."""
    for name, value in values.items():
        nn.init.constant_(getattr(layer, name), value)
    return layer


ZEROS = "any grid would do for what is always zero"
add(
    "zeros: ConvGRU",
    Case(
        "a state that starts with zeros for every input",
        lambda: Net(
            _conv_gru,
            gates=nn.Conv2d(3, 16, 3, padding=1),
            kept=nn.Conv2d(8, 16, 3, padding=1),
            state=nn.Conv2d(11, 8, 3, padding=1),
            out=nn.Conv2d(8, 2, 1),
        ),
        ((8, 3, 3, 6, 5),),
        {
            "gates": "QLinearConv",
            "kept": "float",
            "kept_2": "QLinearConv",
            "state_2": "QLinearConv",
            "out": "QLinearConv",
        },
        {},
        shown=(),
    ),
)
add(
    "zeros: a dead branch",
    Case(
        ZEROS,
        lambda: Net(
            lambda m, x: m.out(F.relu(m.one(x)) + m.two(F.relu(m.dead(x)))).flatten(1),
            one=nn.Conv2d(3, 4, 3),
            dead=_with(nn.Conv2d(3, 4, 3), bias=-1000.0),
            two=nn.Conv2d(4, 4, 1),
            out=nn.Conv2d(4, 2, 1),
        ),
        ((8, 3, 7, 6),),
        {"dead": "QLinearConv", "two": "QLinearConv", "add": "QLinearAdd", "out": "QLinearConv"},
        {"dead": "CONV_2D", "two": "CONV_2D", "add": "ADD", "out": "CONV_2D"},
        shown=("onnx-int8", "tflite-int8"),
    ),
)
add(
    "zeros: layers of zeros",
    Case(
        ZEROS,
        lambda: Net(
            lambda m, x: m.out((z := m.zero(x)) + m.one(x) * z + m.one(x)).flatten(1),
            one=nn.Conv2d(3, 4, 3),
            zero=_with(nn.Conv2d(3, 4, 3, bias=False), weight=0.0),
            out=nn.Conv2d(4, 2, 1),
        ),
        ((8, 3, 7, 6),),
        {"one": "QLinearConv", "add": "QLinearAdd", "mul": "QLinearMul", "out": "QLinearConv"},
        None,
    ),
)
for name, zeros in {
    "zeros": lambda x: torch.zeros(x.shape[0], 4, 5, 4),
    "zeros_like": torch.zeros_like,
    "new_zeros": lambda x: x.new_zeros(x.shape[0], 4, 1, 1),
    "full": lambda x: torch.full((x.shape[0], 4, 1, 1), 0.25),
}.items():
    add(
        f"zeros: + {name}",
        Case(
            "what depends on the batch size alone is no activation",
            lambda zeros=zeros: Net(
                lambda m, x: m.out((y := m.one(x)) + zeros(y)).flatten(1),
                one=nn.Conv2d(3, 4, 3),
                out=nn.Conv2d(4, 2, 1),
            ),
            ((8, 3, 7, 6),),
            {"one": "QLinearConv", "add": "float: one operand is a constant", "out": "QLinearConv"},
            {"one": "CONV_2D", "add": "float: one operand is a constant", "out": "CONV_2D"},
            shown=("onnx-int8",) if name == "zeros" else (),
        ),
    )

NO_OPS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "float": lambda y, x: y.float(),
    "to dtype": lambda y, x: y.to(x.dtype),
    "type_as": lambda y, x: y.type_as(x),
    "cpu": lambda y, x: y.cpu(),
    "to device": lambda y, x: y.to(x.device),
    "contiguous": lambda y, x: y.contiguous(),
    "clone": lambda y, x: y.clone(),
    "detach": lambda y, x: y.detach(),
}


def _with_no_ops(change: Callable[[Tensor, Tensor], Tensor]) -> Body:
    def body(m: Any, x: Tensor) -> Tensor:
        y = change(F.relu(change(m.norm(change(m.one(change(x, x)), x)), x)), x)
        z = change(m.two(y), x) + change(y, x)
        return change(m.out(change(z.view(z.shape[0], -1), x)), x)

    return body


for name, change in NO_OPS.items():
    add(
        f"no-op: {name}",
        Case(
            "a cast that changes nothing hides layers from each other",
            lambda change=change: Net(
                _with_no_ops(change),
                one=nn.Conv2d(3, 4, 3, bias=False),
                norm=nn.BatchNorm2d(4),
                two=nn.Conv2d(4, 4, 3, padding=1),
                out=nn.Linear(80, 5),
            ),
            ((8, 3, 7, 6),),
            {"one": "QLinearConv", "two": "QLinearConv", "add": "QLinearAdd", "out": "QGemm"},
            {"one": "CONV_2D", "two": "CONV_2D", "add": "ADD", "out": "float"},
            folded=1,
            operators={"CONV_2D": 2, "ADD": 1, "FULLY_CONNECTED": 1, "CAST": None},
            shown=("onnx-int8", "tflite-int8") if name == "float" else (),
        ),
    )


# 8. Chains of codes that need more than one operator's rule.

ONE_AXIS = "a mean over one axis is a pool of codes"
MEANS: dict[str, tuple[Body, tuple[Shape, ...]]] = {
    "tokens": (lambda m, x: m.out(F.relu(m.one(x)).mean(1)), ((8, 5, 6),)),
    "tokens, kept": (lambda m, x: m.out(m.one(x).mean(1, keepdim=True)).flatten(1), ((8, 5, 6),)),
    "last of four": (lambda m, x: m.out(m.one(x).transpose(1, 3).mean(-1).transpose(1, 2)).flatten(1), ((8, 3, 4, 6),)),
    "second of four": (lambda m, x: m.out(m.one(x).mean(2)).flatten(1), ((8, 3, 4, 6),)),
}
for name, (body, inputs) in MEANS.items():
    add(
        f"mean: {name}",
        Case(
            ONE_AXIS,
            lambda body=body: Net(body, one=nn.Linear(6, 7), out=nn.Linear(7, 4)),
            inputs,
            {"one": "QGemm", "mean": "QLinearGlobalAveragePool", "out": "QGemm"},
            {"one": "FULLY_CONNECTED"},
            shown=("onnx-int8",) if name == "tokens" else (),
        ),
    )
for name, body in {
    "two axes": lambda m, x: m.out(m.one(x).mean((1, 2))),
    "unread": lambda m, x: m.one(x).mean(1).flatten(1),
}.items():
    add(
        f"mean: {name}",
        Case(
            "a mean that no pool of codes computes, or that nobody wants as codes",
            lambda body=body: Net(body, one=nn.Linear(6, 7), out=nn.Linear(7, 4)),
            ((8, 3, 4, 6),),
            {"one": "QGemm", "mean": "float"},
            {"mean": "float"},
        ),
    )


def _decoder(m: Any, x: Tensor) -> Tensor:
    """Half of a U-Net: a transposed convolution and a bilinear resize, each joined with what comes from the left."""
    left = F.relu(m.left(x))
    up = F.relu(m.norm(m.up(F.relu(m.down(left)))))
    wide = F.interpolate(m.middle(torch.cat([left, up], 1)), scale_factor=2, mode="bilinear")
    return m.out(wide).flatten(1)


add(
    "chain: decoder",
    Case(
        "layers around a transposed convolution and a resize stay on codes, and its BatchNorm is folded",
        lambda: Net(
            _decoder,
            left=nn.Conv2d(3, 4, 3, padding=1),
            down=nn.Conv2d(4, 8, 2, stride=2),
            up=nn.ConvTranspose2d(8, 4, 2, stride=2),
            norm=nn.BatchNorm2d(4),
            middle=nn.Conv2d(8, 4, 1),
            out=nn.Conv2d(4, 2, 1),
        ),
        ((8, 3, 8, 6),),
        {
            "left": "QLinearConv",
            "down": "QLinearConv",
            "up": TRANSPOSED,
            "middle": "QLinearConv",
            "upsample_bilinear2d": MIXED,
            "out": "QLinearConv",
        },
        {"left": "CONV_2D", "up": "TRANSPOSE_CONV", "upsample_bilinear2d": "RESIZE_BILINEAR", "out": "CONV_2D"},
        folded=1,
        paper=True,
        shown=(),
    ),
)


def _decoding(up: Body, **layers: nn.Module) -> nn.Module:
    """Down and up twice; `up(net, level, x)` makes an image as large again."""

    def body(m: Any, x: Tensor) -> Tensor:
        one = F.relu(m.one(x))
        two = F.relu(m.two(F.max_pool2d(one, 2)))
        three = F.relu(m.three(F.max_pool2d(two, 2)))
        two = F.relu(m.join_two(torch.cat([two, up(m, "two", three)], 1)))
        joined: Tensor = m.head(m.join_one(torch.cat([one, up(m, "one", two)], 1)))
        return joined.flatten(1)

    down = {"one": nn.Conv2d(3, 4, 3, padding=1), "two": nn.Conv2d(4, 6, 3, padding=1)}
    return Net(body, **down, three=nn.Conv2d(6, 8, 3, padding=1), head=nn.Conv2d(4, 2, 1), **layers)


UP = ("up_two", "up_one")
CODES = ("one", "two", "three", "join_two", "join_one", "head")
add(
    "chain: u-net, transposed",
    Case(
        "a U-Net's transposed convolutions, one whose padding is cut off, between its concatenations",
        lambda: _decoding(
            lambda m, level, x: F.relu(getattr(m, f"up_{level}")(x)),
            up_two=nn.ConvTranspose2d(8, 6, 2, 2),
            up_one=nn.ConvTranspose2d(6, 4, 3, 2, 1, 1),
            join_two=nn.Conv2d(12, 6, 3, padding=1),
            join_one=nn.Conv2d(8, 4, 3, padding=1),
        ),
        ((8, 3, 8, 12),),
        dict.fromkeys(CODES, "QLinearConv") | dict.fromkeys(UP, TRANSPOSED),
        dict.fromkeys(CODES, "CONV_2D") | dict.fromkeys(UP, "TRANSPOSE_CONV"),
        shown=("tflite-int8",),
    ),
)
add(
    "chain: u-net, bilinear",
    Case(
        "a U-Net's resizes share the grid of what they are joined with",
        lambda: _decoding(
            lambda m, level, x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=level == "one"),
            join_two=nn.Conv2d(14, 6, 3, padding=1),
            join_one=nn.Conv2d(10, 4, 3, padding=1),
        ),
        ((8, 3, 8, 12),),
        dict.fromkeys(CODES, "QLinearConv") | {"upsample_bilinear2d": MIXED, "upsample_bilinear2d_1": MIXED},
        dict.fromkeys(CODES, "CONV_2D")
        | dict.fromkeys(("upsample_bilinear2d", "upsample_bilinear2d_1"), "RESIZE_BILINEAR"),
        shown=("tflite-int8",),
    ),
)


# 9. What forward writes in place, what no output reads, random numbers, and names that are no identifiers.

EVERY_MODE = ("onnx-float32", "onnx-int8", "tflite-float32", "tflite-int8")
RANDOM = Refused("answers differently on the same input")


def written(
    name: str,
    guards: str,
    body: Body,
    onnx: Expected,
    tflite: Expected = None,
    *,
    shown: tuple[str, ...] = (),
    **more: Any,
) -> None:
    """An image, a convolution, what the body does, and a layer that reads the result."""

    def network() -> nn.Module:
        net = Net(body, conv=nn.Conv2d(3, 8, 3, padding=1), aux=nn.Conv2d(8, 8, 3), reader=nn.Conv2d(8, 6, 1))
        net.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        net.register_buffer("mean", torch.zeros(8))
        return net

    add(f"written: {name}", Case(guards, network, ((4, 3, 8, 8),), onnx, tflite, shown=shown, **more))


def _centred(m: Any, x: Tensor) -> Tensor:
    x.sub_(0.25).mul_(2)
    return m.reader(m.conv(x).relu_())


def _part_of_channels(m: Any, x: Tensor) -> Tensor:
    y = m.conv(x)
    y[:, :2] = y[:, 2:4] * 2
    y[:, -1] += 1
    return m.reader(y)


def _zero_border(m: Any, x: Tensor) -> Tensor:
    y = m.conv(x)
    y[..., 0] = 0
    y[:, :, -1:, :] = 0
    return m.reader(y)


def _statistics(m: Any, x: Tensor) -> Tensor:
    y = m.conv(x)
    m.calls += 1
    with torch.no_grad():
        m.mean.mul_(0.9).add_(0.1 * y.mean((0, 2, 3)))
    return m.reader(y.relu())


def _one_of_three(m: Any, x: Tensor) -> Tensor:
    y = m.conv(x).relu()
    _, used, _ = m.aux(y), m.reader(y), m.aux(y).sigmoid()
    return used


def _logs(m: Any, x: Tensor) -> Tensor:
    y = m.conv(x)
    m.log = m.aux(y).mean()
    return m.reader(y)


def _size_alone(m: Any, x: Tensor) -> Tensor:
    y = m.conv(x)
    return m.reader(F.interpolate(y, size=m.aux(y).shape[-2:]))


written(
    "input",
    "a network that writes into its input: the held ones must not change under the check",
    _centred,
    {"conv": "QLinearConv", "reader": "QLinearConv"},
    {"conv": "CONV_2D", "reader": "CONV_2D"},
    shown=("onnx-int8",),
)
written(
    "part of the channels",
    "a write into a view, as of the boxes of a detector, is a concatenation of codes",
    _part_of_channels,
    {"conv": "QLinearConv", "reader": "QLinearConv"},
    {"conv": "CONV_2D", "reader": "CONV_2D"},
    shown=("onnx-int8", "tflite-int8"),
)
written(
    "zero border",
    "a constant that is written into a view",
    _zero_border,
    {"conv": "QLinearConv", "reader": "QLinearConv"},
    {"conv": "CONV_2D"},
)
written(
    "statistics",
    "a counter and a running mean that no output reads",
    _statistics,
    {"conv": "QLinearConv", "reader": "QLinearConv"},
    {"conv": "CONV_2D", "reader": "CONV_2D"},
)
written(
    "one of three",
    "values that are computed and read by no output",
    _one_of_three,
    {"conv": "QLinearConv", "reader": "QLinearConv"},
    {"conv": "CONV_2D", "reader": "CONV_2D"},
    shown=("onnx-int8", "tflite-int8"),
)
written("log", "a layer that is computed for an attribute alone", _logs, {"reader": "QLinearConv"}, {"conv": "CONV_2D"})
written("size alone", "a layer of which only the size is read", _size_alone, {"reader": "QLinearConv"}, {})
written(
    "dropout, always on",
    "random numbers in eval mode are called that",
    lambda m, x: m.reader(F.dropout(m.conv(x), 0.3)),
    RANDOM,
    RANDOM,
    refused=dict.fromkeys(EVERY_MODE, RANDOM),
    shown=("onnx-float32",),
)
written(
    "noise",
    "likewise, where no runtime has such an operator",
    lambda m, x: m.reader(m.conv(x) + 0.1 * torch.randn_like(x[:, :1])),
    RANDOM,
    RANDOM,
    refused=dict.fromkeys(EVERY_MODE, RANDOM),
)


class OddNames(nn.Module):
    """Layers called as people call them, and a parameter of its own."""

    NAMES = ("conv-1", "a/b", "conv 1", "size=3", '"', "class", "it's", "a\\b", "é", "{0}")

    def __init__(self) -> None:
        super().__init__()
        for name in self.NAMES:
            self.add_module(name, nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()))
        self.add_module("fc-1", nn.Linear(4, 3))
        self.register_parameter("my scale", nn.Parameter(torch.ones(4, 1, 1) * 0.5))

    def forward(self, x: Tensor) -> Tensor:
        for name in self.NAMES:
            x = getattr(self, name)(x) + x
        return getattr(self, "fc-1")((x * getattr(self, "my scale")).mean((2, 3)))


add(
    "names that are no identifiers",
    Case(
        "code is generated from the names of layers",
        OddNames,
        ((4, 4, 6, 6),),
        {f"{name}.0": "QLinearConv" for name in OddNames.NAMES} | {"fc-1": "QGemm"},
        {f"{name}.0": "CONV_2D" for name in OddNames.NAMES},
        shown=("onnx-int8",),
    ),
)


# Files that are right, and whose outputs a stricter contract would part: ties, infinities, one class per pixel.


def _u_net() -> nn.Module:
    """Every pixel has a class: of many thousands a few are ties of two sums, whatever computes them."""

    def body(m: Net, x: Tensor) -> Tensor:
        fine = m.fine(x).relu()
        coarse = m.coarse(F.max_pool2d(fine, 2)).relu()
        return m.classes(torch.cat([F.interpolate(coarse, scale_factor=2.0), fine], 1))  # type: ignore[no-any-return]

    layers = {"fine": nn.Conv2d(3, 6, 3, padding=1), "coarse": nn.Conv2d(6, 8, 3, padding=1)}
    return Net(body, **layers, classes=nn.Conv2d(14, 3, 1))


add(
    "ties, last",
    Case(
        "saturated outputs, of which the largest two are 1.0 and 0.9999999",
        lambda: Net(lambda m, x: torch.tanh(40 * m.conv(x))[:, 0], conv=nn.Conv1d(4, 1, 3, padding=1)),
        ((16, 4, 200),),
        shown=("onnx-float32", "tflite-float32"),
    ),
)
for word, value in (("infinite", float("-inf")), ("smallest", torch.finfo(torch.float32).min)):
    add(
        f"{word} masks, last",
        Case(
            "actions that are forbidden: equal infinities are equal, and no mask sets the bound of the others",
            lambda value=value: Net(  # type: ignore[misc]
                lambda m, x, mask: torch.where(mask > 0, m.b(m.a(x).relu()), torch.tensor(value)),
                a=nn.Linear(16, 32),
                b=nn.Linear(32, 6),
            ),
            ((12, 16), (12, 6)),
            shown=("onnx-float32", "onnx-int8") if word == "infinite" else (),
        ),
    )
add("dense predictions", Case("pixels of which two classes tie", _u_net, ((6, 3, 64, 64),)))


# 11. LiteRT's functions of each number, choices and norms; limits that near misses cross.

FUNCTIONS: dict[str, Body] = {
    "abs": lambda m, x: x.abs(),
    "neg": lambda m, x: -x,
    "square": lambda m, x: x.square(),
    "square root": lambda m, x: (x.abs() + 0.1).sqrt(),
    "power": lambda m, x: (x.abs() + 0.5) ** 1.7,
    "power of two": lambda m, x: x**2,
    "power by a tensor": lambda m, x: (x.abs() + 0.5).pow(x.sigmoid()),
    "number to a power": lambda m, x: 2.0**x,
    "reciprocal": lambda m, x: (x.abs() + 1).reciprocal(),
    "exponential": lambda m, x: x.exp(),
    "logarithm": lambda m, x: (x.abs() + 1).log(),
    "sine and cosine": lambda m, x: x.sin() + x.cos(),
    "quotient": lambda m, x: x / (1 + x.abs()),
    "divided by a number": lambda m, x: x / 3,
    "number divided": lambda m, x: 1 / (1 + x.abs()),
    "number minus": lambda m, x: 1 - x,
    "larger": lambda m, x: torch.maximum(x, -x),
    "smaller": lambda m, x: torch.minimum(x, m.factor),
    "elu": lambda m, x: F.elu(x),
    "elu of another alpha": lambda m, x: F.elu(x, 0.5),
    "selu": lambda m, x: F.selu(x),
    "celu": lambda m, x: F.celu(x, 0.7),
    "softplus": lambda m, x: F.softplus(9 * x),
    "mish": lambda m, x: F.mish(x),
    "log sigmoid": lambda m, x: F.logsigmoid(9 * x),
    "hard sigmoid": lambda m, x: F.hardsigmoid(4 * x),
    "prelu": lambda m, x: m.slope(x),
    "prelu of channels": lambda m, x: m.slopes(x),
    "log softmax": lambda m, x: x.log_softmax(1),
    "group norm": lambda m, x: m.groups(x),
    "instance norm": lambda m, x: F.instance_norm(x),
    "rms norm": lambda m, x: m.rms(x),
    "where": lambda m, x: torch.where(x > 0.1, x, -0.5 * x),
    "masked fill": lambda m, x: x.masked_fill(x.abs() < 0.2, 0.7),
    "logic": lambda m, x: torch.where((x > 0) & ~(x >= 0.5) | (x < -0.5), x, 0.0),
    "cast of truth": lambda m, x: x * (x > 0).float(),
    "cast to integers": lambda m, x: x + (3 * x).to(torch.int64),
    "einsum": lambda m, x: torch.einsum("nchw,ncvw->nchv", x, x),
    "index": lambda m, x: x[:, [2, 0, 2]][:, :, :, [1, -1]],
}
LAST_LAYERS |= {
    "slope": lambda: nn.PReLU(init=0.3),
    "slopes": lambda: nn.PReLU(3, init=0.3),
    "groups": lambda: nn.GroupNorm(3, 3),
    "rms": lambda: nn.RMSNorm(7),
}
for name, body in FUNCTIONS.items():
    usual = ("quotient", "hard sigmoid", "group norm", "where", "einsum", "index")
    last(name, ELEMENTWISE, body, seldom=name not in usual)

MOVES: dict[str, Body] = {
    "flip": lambda m, x: x.flip(2, 3),
    "roll": lambda m, x: x.roll((2, -1), (2, 3)),
    "stack": lambda m, x: torch.stack([x, 2 * x], 2).flatten(1, 2),
    "transposed matrices": lambda m, x: x @ x.mT,
    "reflect": lambda m, x: F.pad(x, (1, 2, 3, 0), mode="reflect"),
    "replicate": lambda m, x: F.pad(x, (1, 2, 3, 0), mode="replicate"),
    "circular": lambda m, x: F.pad(x, (1, 2, 3, 0), mode="circular"),
    "cut": lambda m, x: F.pad(x, (-1, -2, 0, -1)),
    "pixel shuffle": lambda m, x: F.pixel_shuffle(m.wide(x), 2),
    "pixel unshuffle": lambda m, x: F.pixel_unshuffle(x[:, :, :8, :6], 2),
    "largest of an axis": lambda m, x: x.amax(1),
    "smallest of axes": lambda m, x: x.amin((2, 3), keepdim=True),
    "largest and its place": lambda m, x: x.max(2).values + x.max(2, keepdim=True).indices.squeeze(2),
    "sum of an axis": lambda m, x: x.sum(1),
    "pools of a sequence": lambda m, x: F.avg_pool1d(F.max_pool1d(x.flatten(2), 3, 2, 1), 2),
    "largest of a sequence": lambda m, x: F.adaptive_max_pool1d(x.flatten(2), 5),
    "adaptive max": lambda m, x: F.adaptive_max_pool2d(x, (3, 1)),
    "windows that differ": lambda m, x: F.adaptive_avg_pool2d(x, (4, 3)),
    "windows over the border": lambda m, x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True),
    "computed mask": lambda m, x: F.scaled_dot_product_attention(x, x, x, attn_mask=x @ x.mT),
    "transposed convolution": lambda m, x: m.up(x),
    "transposed in groups": lambda m, x: m.groups_up(m.wide(x)),
    "transposed sequence": lambda m, x: m.long(x.flatten(2)),
}
LAST_LAYERS |= {
    "wide": lambda: nn.Conv2d(3, 4, 1),
    "kernel": lambda: nn.Parameter(torch.randn(3, 2, 2, 2)),
    "up": lambda: nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1, output_padding=1),
    "groups_up": lambda: nn.ConvTranspose2d(4, 6, (2, 3), stride=(2, 1), groups=2),
    "long": lambda: nn.ConvTranspose1d(3, 2, 4, stride=3, padding=1),
}
for name, body in MOVES.items():
    last(
        name,
        AXES,
        body,
        None,
        {},
        seldom=name not in ("roll", "pixel shuffle", "windows that differ", "reflect"),
    )

SPELLED: dict[str, Body] = {
    "channel shuffle": lambda m, x: m.reader(F.channel_shuffle(m.conv(x), 2)),
    "repeat": lambda m, x: m.reader(m.conv(x)[:, :4].repeat(1, 2, 1, 1).tile(1, 2)),
    "repeat interleave": lambda m, x: m.reader(m.conv(x)[:, :4].repeat_interleave(2, 1)),
    "expand": lambda m, x: m.reader((y := m.conv(x))[:, :1].expand_as(y)),
    "narrow and movedim": lambda m, x: m.reader(
        m.conv(x).movedim(1, -1).narrow(2, 1, 9).moveaxis(-1, 1).swapaxes(2, 3)
    ),
    "tensor split": lambda m, x: m.reader(torch.cat(m.conv(x).tensor_split(3, 1)[::-1], 1)),
    "split at places": lambda m, x: m.reader(torch.cat(m.conv(x).tensor_split((1, 3), 1)[::-1], 1)),
    "nearest of a row": lambda m, x: m.conv1d(F.interpolate(m.conv(x).flatten(2), scale_factor=2.0)),
    "a row written": lambda m, x: m.reader(torch.select_scatter(y := m.conv(x), y[:, 0], 1, 2)),
    "cut and padded": lambda m, x: m.reader(F.pad(m.conv(x), (1, -1, -2, 2))),
    "nearest of a row, exact": lambda m, x: m.conv1d(
        F.interpolate(m.conv(x).flatten(2), size=99, mode="nearest-exact")
    ),
    "largest of a row's windows": lambda m, x: m.conv1d(F.adaptive_max_pool1d(m.conv(x).flatten(2), 7)),
    "turned": lambda m, x: m.reader(m.conv(x).rot90(1, (2, 3)).rot90(2, (3, 2)).rot90(-1, (2, 3))),
    "diagonal": lambda m, x: m.conv1d(m.conv(x).diagonal(-1, 2, 3)),
    "windows": lambda m, x: m.reader(m.conv(x).unfold(2, 3, 2).flatten(3)),
    "few windows": lambda m, x: m.reader(m.conv(x).unfold(-1, 10, 2).flatten(3)),
    "patches side by side": lambda m, x: m.reader(m.conv(x).unfold(2, 5, 5).unfold(3, 4, 4).flatten(3)),
    "patches of a transformer": lambda m, x: m.conv1d(F.unfold(m.conv(x), (4, 3), stride=(4, 3))[:, ::12]),
    "patches": lambda m, x: m.conv1d(F.unfold(m.conv(x), (2, 3), dilation=(2, 1), padding=(1, 0), stride=2)[:, ::6]),
}
"""Moves of codes under other names."""
for name, body in SPELLED.items():
    readers = {"conv1d"} & {*body.__code__.co_names} or {"reader"}
    read(
        name,
        "codes pass through as they are",
        body,
        {"conv": "QLinearConv"} | dict.fromkeys(readers, "QLinearConv"),
        {"conv": "CONV_2D"} | dict.fromkeys(readers, "CONV_2D"),
    )


def _interleaved(m: Any, x: Tensor) -> Tensor:
    """Writes into every other column, and into a row."""
    y = x.clone()
    y[:, :, ::2] = 2 * x[:, :, 1:].abs()[:, :, ::2].sum(2, keepdim=True)
    y[:, 1] = x[:, 0] + 1
    return y


def _turned(m: Any, x: Tensor) -> Tensor:
    """Constant places, which differ among the columns."""
    places = torch.arange(9 * 7).view(1, 1, 9, 7) * 5 % 7
    return x.gather(3, places.expand(x.shape[0], 3, 9, 7))


PICKED: dict[str, Body] = {
    "linear of a row": lambda m, x: F.interpolate(x.flatten(2), size=50, mode="linear"),
    "linear of a row, aligned": lambda m, x: F.interpolate(
        x.flatten(2), scale_factor=2, mode="linear", align_corners=True
    ),
    "repeated in front": lambda m, x: x.mean(1, keepdim=True).unsqueeze(1).repeat(1, 2, 3, 1, 2),
    "gather by constants": _turned,
    "gather by an order": lambda m, x: x.gather(3, x.argsort(3)[:, :, :, 2:6]),
    "gather of the batch's own": lambda m, x: x.flatten(2)[torch.arange(x.shape[0]), x.mean((2, 3)).argmax(1)],
    "index on two axes": lambda m, x: x[:, [0, 2, 1], [3, 8, 0]],
    "index on axes apart": lambda m, x: (
        x[:, torch.tensor([[0], [2]]), :, torch.tensor([6, -1])].movedim(2, 0).flatten(1)
    ),
    "variance": lambda m, x: torch.cat([x.var((2, 3)), x.var(1, unbiased=False).mean(1)], 1),
    "deviation": lambda m, x: x / (0.5 + x.std((1, -1), correction=0, keepdim=True)) + x.std(-1, keepdim=True),
    "products and quotients added": lambda m, x: torch.addcdiv(torch.addcmul(x, x, x, value=0.5), x, x.abs() + 1),
    "gated": lambda m, x: F.glu(torch.cat([x, 2 * x], 1), 1),
    "logarithm of summed exponentials": lambda m, x: x.logsumexp((1, 2)) + (50 * x).logsumexp(1).mean(1),
    "lengths": lambda m, x: torch.linalg.vector_norm(x, dim=1) + x.norm(dim=(1,)),
    "variance and mean": lambda m, x: torch.cat(
        [*torch.var_mean(x, (2, 3)), *torch.std_mean(x, (1, 2), correction=2)], 1
    ),
    "largest in order": lambda m, x: torch.cat([x.topk(3)[0], x.topk(3, 3, largest=False)[0]], 1),
    "largest across channels": lambda m, x: x.topk(2, 1)[0],
    "sorted": lambda m, x: torch.cat([x.sort(2)[0], x.sort(2, descending=True)[0]], 1),
    "running sum": lambda m, x: x.cumsum(2) + x.cumsum(-1),
    "written in steps": _interleaved,
    "means of cut windows": lambda m, x: F.avg_pool2d(x, 4, 3, 2, ceil_mode=True),
    "means without padding": lambda m, x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "means of cut windows without padding": lambda m, x: F.avg_pool2d(x, (4, 3), 3, (2, 1), True, False),
    "sums over another number": lambda m, x: F.avg_pool2d(x, 3, 2, 1, divisor_override=5),
    "sums of cut windows": lambda m, x: torch.cat(
        [
            F.avg_pool2d(x, (2, 3), ceil_mode=True, divisor_override=3).flatten(1),
            F.avg_pool2d(x, 4, (3, 2), 1, ceil_mode=True, divisor_override=3).flatten(1),
            F.avg_pool2d(x, 2, 3, 1, ceil_mode=True, divisor_override=3).flatten(1),
        ],
        1,
    ),
    "means of a sequence without padding": lambda m, x: F.avg_pool1d(x.flatten(2), 3, 2, 1, True, False),
    "means of windows of a sequence": lambda m, x: torch.cat(
        [F.adaptive_avg_pool1d(x.flatten(2), 9), F.adaptive_avg_pool1d(x.flatten(2), 5)], 2
    ),
    "dilated maxima": lambda m, x: F.max_pool2d(x, 3, 2, 1, dilation=2),
    "dilated maxima of cut windows": lambda m, x: F.max_pool2d(x, (2, 3), 2, (1, 1), dilation=(1, 2), ceil_mode=True),
    "transposed beyond": lambda m, x: F.conv_transpose2d(x, m.kernel, stride=3, padding=(1, 0), output_padding=2),
    "differences": lambda m, x: torch.cat([x.diff(dim=2).flatten(1), x.diff(2, -1, x[:, :, :, :1]).flatten(1)], 1),
    "diagonals above": lambda m, x: x.diagonal(2, 1, -1),
    "patches of an image": lambda m, x: F.unfold(x, 3, padding=1, stride=2),
    "patches of a padded image": lambda m, x: F.unfold(x, (2, 3), padding=(1, 1), stride=(2, 3)),
    "places filled": lambda m, x: x.index_fill(2, torch.tensor([0, -2]), 0.5),
    "cosines": lambda m, x: torch.cosine_similarity(x, x.flip(2)) + torch.cosine_similarity(m.factor, x, 1),
    "products of an axis": lambda m, x: x.prod(1) + x.prod(2, keepdim=True).squeeze(2).sum(1, keepdim=True),
    "middle values": lambda m, x: torch.cat([x.median(2)[0], x[:, :, :4].median(2, True)[0][:, :, 0]], 1),
    "repeated by counts": lambda m, x: x.repeat_interleave(torch.tensor([1, 0, 3]), 1, output_size=4),
}
for name, body in PICKED.items():
    usual = (
        "gather by an order",
        "variance",
        "largest in order",
        "written in steps",
        "dilated maxima",
        "transposed beyond",
        "products of an axis",
        "places filled",
    )
    # torch.onnx knows repeat_interleave without output_size alone.
    unknown = Refused("unexpected keyword argument 'output_size'") if name == "repeated by counts" else None
    last(name, "it has no operator of its own, or another rule", body, unknown, {}, seldom=name not in usual)

ORDERED: dict[str, Body] = {
    "largest": lambda m, x: x.flatten(1).topk(7)[1],
    "smallest": lambda m, x: x.topk(3, 2, largest=False)[1],
    "all": lambda m, x: x.flatten(1).sort(1, descending=True)[1],
    "order": lambda m, x: x.flatten(1).argsort(1),
    "middle": lambda m, x: x.flatten(1).median(1)[1].unsqueeze(1),
}
for name, body in ORDERED.items():
    guards = "of equal codes the first comes first, and many are equal: floats of a file of floats are not"
    last(f"places: {name}", guards, body, None, {}, seldom=name != "largest")

NEAR_MISSES: dict[str, tuple[Body, str]] = {
    "transposed and dilated": (lambda m, x: F.conv_transpose2d(x, m.kernel, dilation=2), "its kernel is dilated"),
    "places of maxima": (
        lambda m, x: F.adaptive_max_pool2d(x, 2, return_indices=True)[1].float(),
        "its places are read; only its values have a lowering",
    ),
    "rounding to decimals": (lambda m, x: x.round(decimals=1), "round: has no lowering to LiteRT"),
    "softplus of another beta": (lambda m, x: F.softplus(x, beta=2), "its beta is not 1"),
    "division that rounds": (
        lambda m, x: torch.div(x, 0.3, rounding_mode="floor"),
        "div: has no lowering to LiteRT; --backend litert-torch may, and export.onnx may take it",
    ),
    "several rows": (lambda m, x: torch.einsum("nchw,ncvw->nhv", x, x), "einsum: has no lowering"),
    "bits": (lambda m, x: x * ((5 * x).int() & 3), "__and__: it computes torch.int32, expected torch.float32"),
    "computed index": (
        lambda m, x: x[torch.arange(x.shape[0]).unsqueeze(1), x.mean((2, 3)).topk(2)[1]],
        "it indexes with computed numbers, expected one for each input",
    ),
    "repeated by counts of unknown sum": (
        lambda m, x: x.repeat_interleave(torch.tensor([1, 0, 3]), 1),
        "PyTorch does not know the size of its result; give it output_size",
    ),
    "product of everything": (lambda m, x: x * x.prod(), "prod: has no lowering to LiteRT"),
    "gather of fewer": (
        lambda m, x: x.gather(3, x[:, :2].argsort(3)),
        "its numbers are fewer than its values on another axis",
    ),
}
for name, (body, reason) in NEAR_MISSES.items():
    last(name, "a wrong answer is not written", body, None, Refused(reason), image=SQUARE, seldom=True)

PICTURE = torch.randint(0, 256, (8, 3, 9, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
add(
    "an input of bytes",
    Case(
        "images come as bytes",
        lambda: Net(lambda m, x: flat(m.conv(x.float() / 255)), conv=nn.Conv2d(3, 4, 3)),
        (PICTURE,),
        {"conv": "QLinearConv"},
        {"conv": "CONV_2D"},
        operators={"CAST": 1, "DIV": 1},
    ),
)
add(
    "an input of truth",
    Case(
        "a mask is an input",
        lambda: Net(lambda m, x, keep: m.fc(x.masked_fill(keep, 0.0)), fc=nn.Linear(6, 4)),
        ((8, 6), torch.rand(8, 6, generator=torch.Generator().manual_seed(4)) > 0.3),
        operators={"SELECT_V2": 1},
    ),
)
add(
    "constants of forward",
    Case(
        "numbers that forward makes are constants, not tensors that it writes",
        lambda: Net(
            lambda m, x: m.two((m.one(x) + torch.tensor([0.5, 0.2, 0.1])).index_select(1, torch.tensor([2, 0]))),
            one=nn.Linear(6, 3),
            two=nn.Linear(2, 5),
        ),
        ((8, 6),),
        shown=("onnx-int8", "tflite-float32"),
    ),
)
read(
    "stack",
    "parts of one grid stay on it",
    lambda m, x: m.reader(torch.stack([(y := m.conv(x))[:, :4], y[:, 4:]], 2).flatten(1, 2)),
    {"reader": "QLinearConv"},
    {"conv": "CONV_2D", "reader": "CONV_2D"},
)
