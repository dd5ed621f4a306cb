"""Whatever an instruction of old x86 makes of two products, a weight that is called safe gives their sum."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

import codeq
from export import export_onnx, load_session
from export.backend import get_backend
from export.onnx.saturation import PAIR_LIMIT, largest_pair_sum
from export.program.names import codes_name
from tests.cases import Net

X = torch.rand(6, 16, 5, 5, generator=torch.Generator().manual_seed(5))


def vpmaddubsw(activations: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Sum two products in 16 bits, as Intel's manual says (volume 2, PMADDUBSW: signed saturation)."""
    return np.clip((activations.astype(np.int64) * codes.astype(np.int64)).sum(-1), -(2**15), 2**15 - 1)


@pytest.mark.quick
def test_no_safe_pair_saturates_and_every_other_one_does() -> None:
    activations = np.array(list(itertools.product((0, 1, 127, 128, 254, 255), repeat=2)))
    for pair in itertools.product(range(-128, 128, 1), (-128, -127, -65, -64, -63, -1, 0, 1, 63, 64, 65, 127)):
        codes = np.array(pair)
        exact = (activations * codes).sum(-1)
        saturates = bool((vpmaddubsw(activations, codes) != exact).any())
        assert (largest_pair_sum(torch.tensor(pair, dtype=torch.int8)) > PAIR_LIMIT) == saturates, pair


@pytest.mark.quick
def test_a_weight_of_one_value_has_no_pair() -> None:
    assert largest_pair_sum(torch.tensor([[127]], dtype=torch.int8)) == 0
    assert largest_pair_sum(torch.zeros(0, dtype=torch.int8)) == 0


def dense(*, twice: bool) -> nn.Module:
    """A network with codes up to 127, most of them of one sign: on old x86 nearly every sum is too large."""
    torch.manual_seed(0)
    model = Net(
        lambda m, x: m.fc((m.conv if twice else m.other)(torch.relu(m.conv(x))).mean((2, 3))),
        conv=nn.Conv2d(16, 16, 3),
        other=nn.Conv2d(16, 16, 3),
        fc=nn.Linear(16, 3),
    )
    with torch.no_grad():
        for weight in (model.conv.weight, model.other.weight):  # type: ignore[union-attr]
            weight.abs_()  # type: ignore[operator]
    codeq.attach(model, bits=8, granularity="channel")
    codeq.freeze(model)
    return model.eval()


def test_a_file_that_could_saturate_asks_for_exact_kernels(tmp_path: Path) -> None:
    """Where this runs on x86 without VNNI, parity is the proof; elsewhere it shows that the option changes nothing."""
    path = tmp_path / "net.onnx"
    report = export_onnx(dense(twice=False), (X[:2],), path, activations="int8", calibration=X, check_inputs=(X,))
    assert report.verdict.ok
    assert report.details.saturation.weights == ("conv.weight", "other.weight", "fc.weight")
    assert report.details.safe_without_vnni is False
    said = " ".join(str(report).split())
    assert "exact with the file's session options; without them conv.weight and 2 more may saturate: two codes" in said
    stored = {
        tensor.name: onnx.numpy_helper.to_array(tensor).astype(int).ravel()
        for tensor in onnx.load(path).graph.initializer
    }
    for name, largest in report.details.saturation.pair_sums.items():
        codes = np.sort(stored[codes_name(name)])
        assert largest == max(codes[-2:].clip(0).sum(), -codes[:2].clip(max=0).sum()) > 128
    graph = onnx.load(path).graph
    zeros = {node.input[2] for node in graph.node if node.op_type == "DequantizeLinear" and len(node.input) == 3}
    assert {"conv.weight_zero_point", "other.weight_zero_point", "fc.weight_zero_point"} <= zeros
    assert not any(tensor.name.startswith("zero_point_int8") for tensor in graph.initializer)
    (ours,) = load_session(path).run(None, {"input": X.numpy()})
    options = ort.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    (stock,) = ort.InferenceSession(path, options).run(None, {"input": X.numpy()})
    np.testing.assert_array_equal(ours, stock)


@pytest.mark.parametrize("storage", ["dense", "packed"])
def test_what_two_layers_read_is_read_as_uint8(storage: Any, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    report = export_onnx(
        dense(twice=True), (X[:2],), path, activations="int8", calibration=X, check_inputs=(X,), storage=storage
    )
    assert report.verdict.ok
    assert {row.kernel for row in report.verdict.kernels} >= {"QLinearConv", "QGemm"}
    assert report.details.saturation.weights == ("conv.weight", "fc.weight")
    assert report.details.saturation.unsigned == ("conv.weight",)
    assert "without them fc.weight may saturate" in " ".join(str(report).split())
    assert get_backend("onnx").inspect(path)
