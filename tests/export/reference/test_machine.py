"""Every operator of the rule table: which kernel of onnxruntime it becomes, and that it computes what we say."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F
from export.onnx.verify_integer import EXACT_KERNELS
from onnx import numpy_helper
from torch import Tensor, nn

import codeq
from codeq.errors import CalibrationError
from export import ExportError, Report, export_onnx, load_session
from export.reference.machine import Codes
from export.reference.onnxruntime import _add, _mul


class Net(nn.Module):
    """A convolution or linear layer, the operators in question, and a reader in integers."""

    def __init__(self, forward: Callable[["Net", Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.depthwise = nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8)
        self.dilated = nn.Conv2d(8, 4, 3, dilation=2, padding="same")
        self.norm = nn.BatchNorm2d(8)
        self.reader = nn.Conv2d(8, 6, 1)
        self.transposed = nn.ConvTranspose2d(8, 8, 2, stride=2)
        self.conv1d = nn.Conv1d(8, 6, 3, padding=1)
        self.conv3d = nn.Conv3d(1, 4, 3, padding=1)
        self.fc = nn.Linear(8, 5)
        self.wide = nn.Linear(8, 8)
        self.body = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, x)


def report(forward: Callable[[Net, Tensor], Tensor], tmp_path: Path, size: int = 12, **options: object) -> Report:
    torch.manual_seed(0)
    model = Net(forward)
    unused = [
        name
        for name, module in model.named_children()
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.Linear)
        and name not in forward.__code__.co_names
    ]
    for name in unused:
        delattr(model, name)
    codeq.attach(model, bits=4)
    x = torch.randn(8, 3, size, size)
    model.train()
    with torch.no_grad():
        model(x)
    codeq.freeze(model)
    return export_onnx(
        model.eval(), (x[:2],), tmp_path / "net.onnx", check_inputs=(x,), activations="int8", calibration=x, **options
    )


def head(m: Net, x: Tensor) -> Tensor:
    return m.reader(F.relu(m.conv(x)))


ZOO: dict[str, tuple[Callable[[Net, Tensor], Tensor], dict[str, str]]] = {
    "relu": (lambda m, x: m.reader(F.relu(m.conv(x))), {"conv": "QLinearConv", "reader": "QLinearConv"}),
    "relu6": (lambda m, x: m.reader(F.relu6(m.conv(x))), {"conv": "QLinearConv", "reader": "QLinearConv"}),
    "hardtanh": (lambda m, x: m.reader(F.hardtanh(m.conv(x), 0.0, 0.5)), {"conv": "QLinearConv"}),
    "clamp": (lambda m, x: m.reader(m.conv(x).clamp(-0.2, 0.3)), {"conv": "QLinearConv"}),
    "batch_norm": (lambda m, x: m.reader(F.relu(m.norm(m.conv(x)))), {"conv": "QLinearConv"}),
    "grouped": (lambda m, x: m.grouped(m.conv(x)), {"grouped": "QLinearConv"}),
    "depthwise": (lambda m, x: m.depthwise(F.relu(m.conv(x))), {"depthwise": "QLinearConv"}),
    "dilated": (lambda m, x: m.dilated(F.relu(m.conv(x))), {"dilated": "QLinearConv"}),
    "transposed": (lambda m, x: m.reader(m.transposed(m.conv(x))), {"transposed": "float", "reader": "QLinearConv"}),
    "conv1d": (lambda m, x: m.conv1d(m.conv(x).flatten(2)), {"conv1d": "QLinearConv"}),
    "conv3d": (lambda m, x: m.conv3d(m.conv(x).unsqueeze(1)), {"conv3d": "QLinearConv"}),
    "add": (lambda m, x: m.reader(F.relu(m.conv(x)) + m.conv(x)), {"add": "QLinearAdd"}),
    "add_broadcast": (
        lambda m, x: m.reader((y := m.conv(x)) + F.adaptive_avg_pool2d(y, 1)),
        {"add": "QLinearAdd", "adaptive_avg_pool2d": "QLinearGlobalAveragePool"},
    ),
    "add_in_place": (lambda m, x: m.reader(m.conv(x).add_(F.relu(m.grouped(m.conv(x))))), {"add": "QLinearAdd"}),
    "mul": (lambda m, x: m.reader((y := F.relu(m.conv(x))) * y.sigmoid()), {"mul": "QLinearMul"}),
    "sigmoid": (lambda m, x: m.reader(m.conv(x).sigmoid()), {"sigmoid": "QLinearSigmoid"}),
    "silu": (
        lambda m, x: m.reader(F.silu(m.conv(x))),
        {"conv": "QLinearConv", "sigmoid": "QLinearSigmoid", "mul": "QLinearMul"},
    ),
    "leaky_relu": (lambda m, x: m.reader(F.leaky_relu(m.conv(x), 0.1)), {"leaky_relu": "QLinearLeakyRelu"}),
    "squeeze_excite": (
        lambda m, x: m.reader((y := F.relu(m.conv(x))) * torch.sigmoid(m.grouped(y.mean((2, 3), keepdim=True)))),
        {"mul": "QLinearMul", "adaptive_avg_pool2d": "QLinearGlobalAveragePool", "grouped": "QLinearConv"},
    ),
    "max_pool": (lambda m, x: m.reader(F.max_pool2d(m.conv(x), 3, 2, 1)), {"reader": "QLinearConv"}),
    "avg_pool": (lambda m, x: m.reader(F.avg_pool2d(m.conv(x), 2)), {"avg_pool2d": "QLinearAveragePool"}),
    "avg_pool_padded": (
        lambda m, x: m.reader(F.avg_pool2d(m.conv(x), 3, 2, 1, count_include_pad=False)),
        {"avg_pool2d": "QLinearAveragePool"},
    ),
    "adaptive_pool": (
        lambda m, x: m.reader(F.adaptive_avg_pool2d(m.conv(x), 3)),
        {"adaptive_avg_pool2d": "QLinearAveragePool"},
    ),
    "mean": (
        lambda m, x: m.fc(m.conv(x).mean([2, 3])),
        {"adaptive_avg_pool2d": "QLinearGlobalAveragePool", "fc": "QGemm"},
    ),
    "cat": (
        lambda m, x: m.reader(torch.cat([F.relu(m.conv(x))[:, :4], m.dilated(m.conv(x))], 1)),
        {"reader": "QLinearConv"},
    ),
    "cat_of_relu_and_others": (
        lambda m, x: m.reader(torch.cat([F.relu(m.conv(x)), m.dilated(m.conv(x))], 1)[:, 2:10]),
        {"conv": "QLinearConv", "cat": "QLinearConcat", "reader": "QLinearConv"},
    ),
    "cat_with_the_input": (
        lambda m, x: m.reader(torch.cat([x, F.relu(m.conv(x))], 1)[:, 1:9]),
        {"conv": "QLinearConv", "cat": "QLinearConcat"},
    ),
    "cat_of_floats": (
        lambda m, x: m.reader(F.hardswish(torch.cat([F.hardswish(y := m.conv(x)), y], 1))[:, 4:12]),
        {"conv": "QLinearConv", "hardswish_1": "float"},
    ),
    "scaled_add_in_place": (lambda m, x: m.reader(m.conv(x).add_(x[:, :1], alpha=0.5)), {"add": "float"}),
    "unbind": (
        lambda m, x: m.fc(torch.cat(m.wide(m.conv(x).flatten(2).mT).unflatten(2, (2, 4)).unbind(2)[::-1], 2)),
        {"wide": "QGemm", "fc": "QGemm"},
    ),
    "split": (
        lambda m, x: m.reader(torch.cat(m.conv(x).split([3, 5], 1)[::-1], 1)),
        {"reader": "QLinearConv"},
    ),
    "largest": (lambda m, x: m.fc(m.conv(x).flatten(2).max(2)[0]), {"conv": "QLinearConv", "fc": "QGemm"}),
    "sequence_first": (
        lambda m, x: m.fc(F.relu(m.wide(m.conv(x).flatten(2).permute(2, 0, 1)))).permute(1, 0, 2),
        {"wide": "QGemm", "fc": "QGemm"},
    ),
    "pad": (lambda m, x: m.reader(F.pad(m.conv(x), (1, 0, 2, 0))), {"reader": "QLinearConv"}),
    "pad_channels": (lambda m, x: m.reader(F.pad(m.dilated(m.conv(x)), (0, 0, 0, 0, 1, 3))), {"reader": "QLinearConv"}),
    "slice": (lambda m, x: m.reader(m.conv(x)[:, :, ::2, 1:]), {"reader": "QLinearConv"}),
    "chunk": (
        lambda m, x: m.reader(torch.cat(m.conv(x).chunk(2, 1)[::-1], 1)),
        {"reader": "QLinearConv"},
    ),
    "shuffle": (
        lambda m, x: m.reader(m.conv(x).unflatten(1, (2, 4)).transpose(1, 2).flatten(1, 2)),
        {"reader": "QLinearConv"},
    ),
    "pixel_shuffle": (
        lambda m, x: m.reader(F.pixel_unshuffle(F.pixel_shuffle(m.conv(x), 2), 2)),
        {"reader": "QLinearConv"},
    ),
    "upsample": (lambda m, x: m.reader(F.interpolate(m.conv(x), scale_factor=2.0)), {"reader": "QLinearConv"}),
    "bilinear": (
        lambda m, x: m.reader(F.interpolate(m.conv(x), scale_factor=2.0, mode="bilinear")),
        {"upsample_bilinear2d": "float", "reader": "QLinearConv"},
    ),
    "pool_over_time": (
        lambda m, x: m.fc(F.adaptive_avg_pool1d(m.conv(x).flatten(2), 1).flatten(1)),
        {"conv": "QLinearConv", "adaptive_avg_pool2d": "QLinearGlobalAveragePool", "fc": "QGemm"},
    ),
    "linear": (lambda m, x: m.fc(F.relu(m.wide(m.conv(x).amax((2, 3))))), {"wide": "QGemm", "fc": "QGemm"}),
    "linear_tokens": (
        lambda m, x: m.fc(F.relu(m.wide(m.conv(x).flatten(2).transpose(1, 2)))),
        {"wide": "QGemm", "fc": "QGemm"},
    ),
    "gelu": (
        lambda m, x: m.fc(F.gelu(m.wide(m.conv(x).flatten(2).transpose(1, 2)))),
        {"wide": "QGemm", "gelu": "float", "fc": "QGemm"},
    ),
    "attention": (
        lambda m, x: m.fc(((t := m.wide(m.conv(x).flatten(2).mT)) @ t.mT).softmax(-1) @ t),
        {"matmul": "MatMulIntegerToFloat", "softmax": "float", "matmul_1": "QLinearMatMul", "fc": "QGemm"},
    ),
    "layer_norm": (
        lambda m, x: m.fc(F.layer_norm(m.conv(x).flatten(2).mT, (8,))),
        {"layer_norm": "float", "fc": "QGemm"},
    ),
    "hardswish": (
        lambda m, x: m.reader(F.hardswish(m.conv(x))),
        {"conv": "QLinearConv", "hardswish": "float", "reader": "QLinearConv"},
    ),
    "constant": (lambda m, x: m.reader(m.conv(x) + torch.ones(1)), {"add": "float", "reader": "QLinearConv"}),
    "two_readers": (
        lambda m, x: m.reader(F.relu(y := m.conv(x)) + y),
        {"conv": "QLinearConv", "relu": "float", "add": "QLinearAdd"},
    ),
}


PAIRS = np.stack(np.meshgrid(np.arange(256), np.arange(256)), -1).reshape(-1, 2).astype(np.uint8)


def run_kernel(
    operator: str, inputs: list[str], tensors: dict[str, np.ndarray], feeds: dict[str, np.ndarray]
) -> np.ndarray:
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(operator, inputs, ["y"], domain="com.microsoft" if "QLinear" in operator else "")],
        "kernel",
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, ["n"]) for name in feeds],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    domains = [onnx.helper.make_opsetid("", 13), onnx.helper.make_opsetid("com.microsoft", 1)]
    model = onnx.helper.make_model(graph, opset_imports=domains, ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, feeds)[0])


@pytest.mark.parametrize(("operator", "rule"), [("QLinearAdd", _add), ("QLinearMul", _mul)])
def test_additions_and_products_of_all_codes_on_random_grids(operator: str, rule: Any) -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        # The products and sums of rounded scales differ in their last bit on a few grids in a hundred only.
        scales = np.exp(rng.uniform(-6, 0, 3)).astype(np.float32)
        scales[2] = (scales[0] + scales[1]) * np.float32(rng.uniform(0.3, 1.2))
        zeros = rng.integers(0, 256, 3).astype(np.uint8)
        tensors = {f"s{i}": scales[i] for i in range(3)} | {f"z{i}": zeros[i] for i in range(3)}
        names = ["a", "s0", "z0", "b", "s1", "z1", "s2", "z2"]
        found = run_kernel(operator, names, tensors, {"a": PAIRS[:, 0], "b": PAIRS[:, 1]})
        codes = [
            Codes(torch.tensor(PAIRS[:, i] - np.float32(zeros[i])), torch.tensor(scales[i]), float(zeros[i]))
            for i in range(2)
        ]
        pending = rule(None, *codes)
        steps = pending.steps(torch.tensor(scales[2]), float(zeros[2])).round()
        ours = (steps if pending.zero_inside else steps + float(zeros[2])).clamp(0, 255).numpy()
        np.testing.assert_array_equal(ours, found)


def test_quantize_and_dequantize_are_onnxs(rng: torch.Generator) -> None:
    x = torch.randn(10_000, generator=rng) * 5
    scale, zero_point = torch.tensor(0.031), torch.tensor(77, dtype=torch.uint8)
    codes = torch.ops.codeq.quantize(x, scale, zero_point)
    values = torch.ops.codeq.dequantize(codes, scale, None, 0, zero_point)
    tensors = {"s": scale.numpy(), "z": zero_point.numpy()}
    found = run_kernel("DequantizeLinear", ["c", "s", "z"], tensors, {"c": codes.numpy()})
    np.testing.assert_array_equal(values.numpy(), found)
    inside = (x / scale).round().abs() < 77
    assert torch.equal(codes[inside], ((x / scale).round() + 77)[inside].to(torch.uint8))
    assert float((values - x)[inside].abs().max()) <= 0.5001 * float(scale)
    assert codes.min() == 0
    assert codes.max() == 255


@pytest.mark.parametrize("name", ZOO)
def test_operators_become_the_kernels_they_should(name: str, tmp_path: Path) -> None:
    forward, expected = ZOO[name]
    written = report(forward, tmp_path)
    assert written.verdict.ok, written.verdict
    assert written.verdict.integer is not None
    kernels = {kernel.name: kernel.kernel for kernel in written.kernels}
    assert {layer: kernels.get(layer) for layer in expected} == expected
    for kernel in written.kernels:
        assert bool(kernel.reason) != kernel.is_integer, kernel
    for layer in written.verdict.integer.layers:
        if layer.kernel in EXACT_KERNELS:
            assert layer.differing == 0, layer


def export_module(model: nn.Module, x: Tensor, path: Path, **options: Any) -> Report:
    codeq.attach(model, bits=4)
    codeq.freeze(model)
    model.eval()
    return export_onnx(model, (x[:2],), path, check_inputs=(x,), activations="int8", calibration=x, **options)


def test_names_that_could_collide(tmp_path: Path) -> None:
    class Names(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)
            self.conv_1 = nn.Conv2d(3, 3, 1)
            self.input = nn.Conv2d(3, 3, 1)
            self.a_b = nn.Conv2d(3, 3, 1)
            self.a = nn.ModuleDict({"b": nn.Conv2d(3, 3, 1)})
            self.cls_token_proj = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.input(self.conv_1(self.conv(self.conv(x))))
            return self.cls_token_proj(self.a["b"](self.a_b(x)))

    torch.manual_seed(0)
    written = export_module(Names(), torch.randn(6, 3, 5, 5), tmp_path / "net.onnx")
    assert written.verdict.ok
    assert len({kernel.name for kernel in written.kernels}) == 7
    assert {kernel.kernel for kernel in written.kernels} == {"QLinearConv"}


def test_outputs_of_other_types_and_inputs_that_are_returned(tmp_path: Path) -> None:
    class Many(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            y = self.fc(x)
            return y, y > 0, x

    torch.manual_seed(0)
    x = torch.randn(6, 4)
    assert export_module(Many(), x, tmp_path / "net.onnx").verdict.ok
    outputs = load_session(tmp_path / "net.onnx").run(None, {"input": x.numpy()})
    np.testing.assert_array_equal(outputs[2], x.numpy())
    assert outputs[1].dtype == np.bool_


def test_writes_into_views_are_refused(tmp_path: Path) -> None:
    class Writes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            y = self.fc(x)
            y[:, :2].relu_()
            return self.fc(y)

    with pytest.raises(ExportError, match=r"^relu_ writes into a view of another tensor"):
        export_module(Writes(), torch.randn(6, 4), tmp_path / "net.onnx")


def test_attention_as_torch_has_it(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
            self.fc = nn.Linear(16, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.layer(x).mean(1))

    torch.manual_seed(0)
    assert export_module(Net(), torch.randn(6, 7, 16), tmp_path / "net.onnx").verdict.ok


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        (torch.zeros(2, 5), r"calibration input 'input' is torch.float32 \(2, 5\), expected torch.float32 \(N, 4\)"),
        (torch.zeros(2, 4, dtype=torch.float64), "is torch.float64"),
        (torch.full((2, 4), 1e38), r"input: the calibration inputs give values of 1e\+38; scale them"),
    ],
)
def test_calibration_inputs_that_do_not_fit(calibration: Any, message: str, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 3))
    codeq.attach(model, bits=4)
    x = torch.randn(6, 4)
    with pytest.raises(CalibrationError, match=message):
        export_onnx(model.eval(), (x,), tmp_path / "net.onnx", activations="int8", calibration=calibration)
