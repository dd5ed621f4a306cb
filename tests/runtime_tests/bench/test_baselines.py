"""What others make of a network: torch's bare file computes it, and onnxruntime's quantization comes near."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

from runtime_tests.bench.baselines import export_bare, quantize_static


@pytest.mark.slow("onnxruntime's quantization imports its tools")
def test_both_files(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)).eval()
    x = torch.randn(8, 2, 6, 6)
    bare, quantized = tmp_path / "bare.onnx", tmp_path / "quantized.onnx"
    export_bare(model, x, bare)
    quantize_static(bare, quantized, x)
    assert sorted(tmp_path.iterdir()) == [bare, quantized]
    expected = model(x).detach().numpy()
    errors = []
    options = ort.SessionOptions()  # without it the quantized file saturates on x86 without VNNI
    options.add_session_config_entry("session.x64quantprecision", "1")
    for path in (bare, quantized):
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {"input": x.numpy()})
        errors.append(float(np.abs(found - expected).max() / np.abs(expected).max()))
    assert errors[0] < 1e-5 < errors[1] < 0.1
    assert "QuantizeLinear" in {node.op_type for node in onnx.load(quantized).graph.node}
