"""The reference computes what onnxruntime's kernels do, for all codes; tests/cases.py has every operator in a file."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

import codeq
from codeq.errors import CalibrationError
from export import ExportError, Report, export_onnx, load_session
from export.reference.machine import Codes, _move
from export.reference.onnxruntime import _mul
from export.reference.processors import onnxruntime_rules, this_processor

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


@pytest.mark.parametrize(
    ("operator", "rule"),
    [("QLinearAdd", onnxruntime_rules(this_processor()).kernels[torch.ops.aten.add.Tensor]), ("QLinearMul", _mul)],
)
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


@pytest.mark.parametrize(
    ("target", "places", "expected"),
    [
        (torch.ops.aten.index_select.default, (1, torch.tensor([2, 0])), [[3, -1]]),
        (torch.ops.aten.index.Tensor, ([None, torch.tensor([1, 1])],), [[2, 2]]),
        (torch.ops.aten.amax.default, ([1], True), [[3]]),
    ],
)
def test_codes_that_are_picked_stay_codes(target: Any, places: tuple[Any, ...], expected: list[list[int]]) -> None:
    node = torch.fx.Graph().call_function(target)
    x = Codes(torch.tensor([[-1.0, 2, 3]]), torch.tensor(0.5), 7)
    found = _move(node, (x, *places))
    assert isinstance(found, Codes)
    assert (found.centered.tolist(), float(found.scale), found.zero_point) == (expected, 0.5, 7)


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


def test_writes_that_cannot_be_followed_are_refused(tmp_path: Path) -> None:
    class Writes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            y = self.fc(x)
            y.unsqueeze(2).expand(-1, -1, 4).diagonal(0, 1, 2).relu_()
            return self.fc(y)

    with pytest.raises(ExportError, match=r"^relu_ writes in place into a view that cannot be followed"):
        export_module(Writes(), torch.randn(6, 4), tmp_path / "net.onnx")


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        (torch.zeros(2, 5), r"calibration input 'input' is torch.float32 \(2, 5\), expected torch.float32 \(N, 4\)"),
        (torch.zeros(2, 4, dtype=torch.float64), "is torch.float64"),
        (torch.full((2, 4), 1e38), r"input: the calibration inputs give values of 1e\+38 there, which no grid"),
    ],
)
def test_calibration_inputs_that_do_not_fit(calibration: Any, message: str, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 3))
    codeq.attach(model, bits=4)
    x = torch.randn(6, 4)
    with pytest.raises(CalibrationError, match=message):
        export_onnx(model.eval(), (x,), tmp_path / "net.onnx", activations="int8", calibration=calibration)
