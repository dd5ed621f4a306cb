"""The smallest wrong changes of a file, one table: parity sees each, in every format and with either activations."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

import codeq
from export import check_parity, export_onnx
from export.parity.outputs import RELATIVE_TOLERANCE

Edit = Callable[[np.ndarray], np.ndarray]


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten()]
    model = nn.Sequential(*layers, nn.Linear(8 * 36, 5)).eval()
    codeq.attach(model, 4)
    codeq.freeze(model)
    return model


class OnnxFile:
    """The tensors of an ONNX file by name, to be edited; what a change says is common to both formats."""

    def __init__(self, source: Path) -> None:
        self.model = onnx.load(source)

    def edit(self, name: str, change: Edit) -> bool:
        for tensor in self.model.graph.initializer:
            if tensor.name == name:
                values = np.array(numpy_helper.to_array(tensor))
                tensor.CopyFrom(numpy_helper.from_array(change(values).astype(values.dtype), name))
                return True
        return False

    def edit_weight_scale(self, name: str, change: Edit) -> bool:
        return self.edit(f"{name}_scale", change)

    def edit_activation_scale(self, name: str, change: Edit) -> bool:
        return self.edit(f"{name}_scale", change)

    def without_relu(self) -> bool:
        """On codes a ReLU is the saturation at its zero point, 0."""
        graph = self.model.graph
        relu = next((node for node in graph.node if node.op_type == "Relu"), None)
        if relu is None:
            return self.edit("zero_point_0", lambda values: values + 1)
        for node in graph.node:
            node.input[:] = [relu.input[0] if name == relu.output[0] else name for name in node.input]
        graph.node.remove(relu)
        return True

    def save(self, path: Path) -> Path:
        target = path.with_suffix(".onnx")
        onnx.save(self.model, target)
        return target


class TfliteFile:
    """The same for a .tflite file."""

    def __init__(self, source: Path) -> None:
        from export.tflite.file.flatbuffer import read

        self.data = source.read_bytes()
        self.model = read(self.data)
        self.tensors = {bytes(tensor.name).decode(): tensor for tensor in self.model.subgraphs[0].tensors}

    def edit(self, name: str, change: Edit) -> bool:
        from export.tflite.file.flatbuffer import tensors_by_name

        if name not in self.tensors:
            return False
        values, tensor = tensors_by_name(self.model)[name]
        assert values is not None
        raw = np.ascontiguousarray(change(values.copy()).astype(values.dtype)).tobytes()
        self.model.buffers[tensor.buffer].data = np.frombuffer(raw, np.uint8)
        return True

    def edit_weight_scale(self, name: str, change: Edit) -> bool:
        grid = self.tensors[f"{name}_quantized"].quantization
        grid.scale = change(np.array(grid.scale, np.float32))
        return True

    def edit_activation_scale(self, name: str, change: Edit) -> bool:
        return f"{name}_quantized" in self.tensors and self.edit_weight_scale(name, change)

    def without_relu(self) -> bool:
        """LiteRT fuses it into the convolution."""
        for operator in self.model.subgraphs[0].operators:
            if getattr(operator.builtinOptions, "fusedActivationFunction", 0):
                operator.builtinOptions.fusedActivationFunction = 0
                return True
        grid = self.tensors["0_quantized"].quantization
        grid.zeroPoint = grid.zeroPoint + 1
        return True

    def save(self, path: Path) -> Path:
        from export.tflite.file.flatbuffer import align_buffers, pack_model

        target = path.with_suffix(".tflite")
        self.model.buffers = align_buffers(self.model)
        target.write_bytes(pack_model(self.model, len(self.data)))
        return target


def plus(step: float, index: int = 0) -> Edit:
    def change(values: np.ndarray) -> np.ndarray:
        values.reshape(-1)[index] += step
        return values

    return change


def ulp(values: np.ndarray) -> np.ndarray:
    return np.nextafter(values, np.float32(np.inf))


def swap(values: np.ndarray) -> np.ndarray:
    return values[[1, 0, *range(2, len(values))]]


def one_code(file: Any, bound: float) -> bool:
    return file.edit("2.weight_quantized", lambda codes: np.where(np.arange(codes.size).reshape(codes.shape), codes, 3))


def one_bias_step(file: Any, bound: float) -> bool:
    """On codes a step, which moves no code of these inputs; of floats what the bound no longer covers."""
    return file.edit("2.bias_quantized", plus(1)) or file.edit("5.bias", plus(1.5 * bound, 2))


def one_step_of_the_last_bias(file: Any, bound: float) -> bool:
    name = "5.bias_quantized"
    return file.edit(name, lambda bias: plus(1 if bias.dtype == np.int32 else 1.5 * bound)(bias)) or file.edit(
        "5.bias", plus(-1.5 * bound)
    )


def missing_relu(file: Any, bound: float) -> bool:
    return bool(file.without_relu())


def swapped_channels(file: Any, bound: float) -> bool:
    return file.edit("2.weight_quantized", swap) and (file.edit("2.bias_quantized", swap) or file.edit("2.bias", swap))


def swapped_inputs(file: Any, bound: float) -> bool:
    """Axis 1 in PyTorch's order, the last one in LiteRT's."""
    axis = 1 if isinstance(file, OnnxFile) else 3
    return bool(file.edit("2.weight_quantized", lambda codes: np.moveaxis(swap(np.moveaxis(codes, axis, 0)), 0, axis)))


def swapped_classes(file: Any, bound: float) -> bool:
    return file.edit("5.weight_quantized", swap) and (file.edit("5.bias_quantized", swap) or file.edit("5.bias", swap))


def swapped_biases(file: Any, bound: float) -> bool:
    return file.edit("0.bias_quantized", swap) or file.edit("0.bias", swap)


def weight_scale_one_ulp(file: Any, bound: float) -> bool:
    return bool(file.edit_weight_scale("2.weight", ulp))


def activation_scale_one_ulp(file: Any, bound: float) -> bool:
    return bool(file.edit_activation_scale("0", ulp))


WRONG = (
    one_code,
    one_bias_step,
    one_step_of_the_last_bias,
    missing_relu,
    swapped_channels,
    swapped_inputs,
    swapped_classes,
    swapped_biases,
    weight_scale_one_ulp,
    activation_scale_one_ulp,
)
FILES = [(kind, activations) for kind in (OnnxFile, TfliteFile) for activations in ("float32", "int8")]


@pytest.fixture(scope="module", params=FILES, ids=lambda value: f"{value[0].__name__}-{value[1]}")
def right(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A network, inputs, and a file of it that holds."""
    kind, activations = request.param
    if kind is TfliteFile:
        pytest.importorskip("ai_edge_litert", reason="LiteRT is an extra: pip install '.[tflite]'")
        from export.tflite import export_tflite as export

        path = tmp_path_factory.mktemp("right") / "net.tflite"
    else:
        export, path = export_onnx, tmp_path_factory.mktemp("right") / "net.onnx"
    model, x = network(), torch.randn(3, 3, 8, 8)
    export(model, x, path, activations=activations)
    with torch.no_grad():
        bound = RELATIVE_TOLERANCE * float(model(x).abs().max())
    return model, x, path, kind, activations, bound


def test_a_copy_is_right(right: Any, tmp_path: Path) -> None:
    model, x, path, kind, activations, _ = right
    verdict = check_parity(kind(path).save(tmp_path / "copy"), model, x)
    assert verdict.ok
    if (kind, activations) == (OnnxFile, "int8"):
        deciding = {check.setting for check in (*verdict.outputs, *verdict.codes) if check.decides}
        assert deciding == {"enable_all"}, "the one level that has integer kernels"
        assert {check.setting for check in verdict.codes} == {"disable_all", "basic", "enable_all"}


@pytest.mark.parametrize("change", WRONG, ids=lambda change: change.__name__)
def test_the_smallest_wrong_change_is_seen(right: Any, tmp_path: Path, change: Any) -> None:
    model, x, path, kind, activations, bound = right
    file = kind(path)
    if not change(file, bound):
        assert (change, activations) == (activation_scale_one_ulp, "float32"), "it changes nothing"
        return
    verdict = check_parity(file.save(tmp_path / "wrong"), model, x[:1])
    assert not verdict.ok, verdict
