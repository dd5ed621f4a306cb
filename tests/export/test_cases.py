"""Every case of tests/cases.py with every backend in every mode: kernels, parity, or a refusal in one line."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn

import codeq
from codeq.quantizer.attach import quantized_weights
from export import ExportError, ParityError, Report, export_onnx
from export.tflite.lower import WAY_OUT
from tests.cases import CASES, Case, Kernels, Refused

QUICK = ("onnx-int8-relu, read", "onnx-paper-network: mlp", "tflite-int8-add, on codes", "tflite-float32-alpha, last")
"""One run of each kind for the tier `quick`."""
MODES = {"onnx": ("float32", "int8", "paper"), "tflite": ("float32", "int8")}


def runs() -> Iterator[Any]:
    for name, case in CASES.items():
        for backend, modes in MODES.items():
            if getattr(case, backend) is None:
                continue
            for mode in modes:
                if mode == "paper" and not case.paper:
                    continue
                run = f"{backend}-{mode}"
                marks = [] if run in case.shown else [pytest.mark.full]
                marks += [pytest.mark.quick] if f"{run}-{name}" in QUICK else []
                yield pytest.param(backend, mode, case, id=f"{run}-{name}", marks=marks)


@torch.no_grad()
def build(case: Case, grid: str = "integer") -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The network of a case, attached, as training might leave it, and its inputs."""
    torch.manual_seed(0)
    model = case.network()
    inputs = tuple(item if isinstance(item, Tensor) else torch.randn(item) for item in case.inputs)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(module.weight)
            module.running_mean = torch.randn(module.num_features)
            module.running_var = torch.rand(module.num_features) + 0.5
    if any(isinstance(m, nn.modules.conv._ConvNd | nn.Linear | nn.MultiheadAttention) for m in model.modules()):
        codeq.attach(model, 4, grid=grid)
    if case.dead_zone is not None:
        for weight in quantized_weights(model):
            weight.original.normal_(0, float(weight.original.std(correction=0)))
            weight.quantizer.theta_dz.fill_(case.dead_zone)
    codeq.freeze(model)
    return model.eval(), inputs


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize(("backend", "mode", "case"), [*runs()])
def test_case(backend: str, mode: str, case: Case, tmp_path: Path) -> None:
    model, inputs = build(case, "paper" if mode == "paper" else "integer")
    activations = "int8" if mode == "int8" else "float32"
    export, check = (_export_tflite, _check_tflite) if backend == "tflite" else (export_onnx, _check_onnx)
    path = tmp_path / f"net.{backend}"
    expected = case.refused.get(f"{backend}-{mode}", getattr(case, backend))
    if isinstance(expected, Refused):
        with pytest.raises((ExportError, ParityError)) as raised:
            export(model, inputs, path, activations=activations)
        assert expected.reason in str(raised.value)
        assert "\n" not in str(raised.value)
        assert list(tmp_path.iterdir()) == []
        if WAY_OUT in str(raised.value) and not isinstance(case.onnx, Refused):  # the advice is followed
            assert export_onnx(model, inputs, tmp_path / "net.onnx", activations=activations).verdict.ok
        return
    report = export(model, inputs, path, activations=activations)
    assert report.verdict.ok, report.verdict
    check(report, case, model, mode)


def _export_tflite(*arguments: Any, **options: Any) -> Any:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is an extra: pip install '.[tflite]'")
    from export.tflite import export_tflite

    return export_tflite(*arguments, **options)


def _check_onnx(report: Report, case: Case, model: nn.Module, mode: str) -> None:
    names = [weight.name for weight in quantized_weights(model)]
    assert sorted(weight.name for weight in report.weights) == sorted(names)
    assert len(report.verdict.weights) == len(names)
    if mode == "int8":
        _check_kernels(case.onnx, report)
        _check_codes(report)
        return
    _check_stored(report, case)
    if case.storages is not None:
        assert tuple(weight.storage for weight in report.weights) == case.storages
    if case.opset is not None:
        assert report.details.opset == case.opset
    if case.folded is not None:
        assert report.folded_batch_norms == case.folded


def _check_stored(report: Report, case: Case) -> None:
    """Codes alone are stored of a quantized weight, and as many are zeros as the dead zone makes."""
    graph = onnx.load(report.path).graph
    codes = {tensor.name for tensor in graph.initializer if tensor.name.endswith("_quantized")}
    codes |= {tensor.values.name for tensor in graph.sparse_initializer}
    stored = {f"{weight.name}_quantized" for weight in report.weights if weight.storage not in ("shared", "unused")}
    assert codes == stored
    total = sum(weight.float32_bytes for weight in report.weights)
    zeros = sum(weight.sparsity * weight.float32_bytes for weight in report.weights)
    assert case.dead_zone is None or not total or 0.6 < zeros / total < 0.95, zeros / total


def _check_tflite(report: Any, case: Case, model: nn.Module, mode: str) -> None:
    assert len(report.weights) == len(list(quantized_weights(model)))
    if mode == "int8":
        _check_kernels(case.tflite, report)
        _check_codes(report)
        return
    assert {name: report.details.operators.get(name) for name in case.operators} == case.operators


def _check_codes(report: Report) -> None:
    """Where a kernel is exact, no code differs from the reference's."""
    assert report.verdict.codes
    differing = {check.name: check.differing for check in report.verdict.codes if check.exact}
    assert not any(differing.values()), differing


def _check_kernels(expected: Kernels, report: Report) -> None:
    found = {kernel.name: kernel.kernel for kernel in report.kernels}
    reasons = {kernel.name: kernel.reason for kernel in report.kernels}
    for layer, kernel in expected.items():
        name, _, reason = kernel.partition(": ")
        assert found.get(layer, "float") == name, (layer, found)
        if reason:
            assert reasons[layer] == reason
