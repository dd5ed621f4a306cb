"""Every method by its name: a network is compressed with it, exported, and the file holds the network's weights."""

import copy
import re
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

import codeq
from codeq.compress import compress
from codeq.compress.pick import METHODS, pick
from export import export_onnx, export_tflite
from export.onnx.storage.weight import CodedWeight
from tests.codeq.compress.problems import problem_of


@pytest.fixture(scope="module")
def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 8, 3), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 5)]
    return nn.Sequential(*layers).eval()


def inputs() -> torch.Tensor:
    return torch.randn(40, 2, 6, 6, generator=torch.Generator().manual_seed(1))


@pytest.mark.slow("networks are traced, exported and run")
@pytest.mark.parametrize("zeros", [0.0, pytest.param(0.5, marks=pytest.mark.full)])
@pytest.mark.parametrize("method", [name for name in METHODS if name != "rounding"])
def test_the_file_holds_what_the_method_chose(method: str, zeros: float, network: nn.Module, tmp_path: Path) -> None:
    model = copy.deepcopy(network)
    if method == "spfq_sign":  # one bit, whatever is asked for
        zeros = 0.0
        report = compress(model, inputs(), method=method)
    else:
        report = compress(model, inputs(), bits=4, zeros=zeros, method=method)
    assert [weight.method for weight in report.weights] == ["rounding", method, method]
    assert [weight.bits for weight in report.weights] == [8, *[1 if method == "spfq_sign" else 4] * 2]
    for name, encoding in list(codeq.encode(model).items())[1:]:
        layer, _, tensor = name.rpartition(".")
        value = getattr(model.get_submodule(layer), tensor)
        assert torch.equal(value, encoding.codes.float() * encoding.along_axis(encoding.scale))
        assert encoding.codes.unique().numel() <= (2 if method == "spfq_sign" else 16)
        if zeros and method not in ("spfq", "spfq_sign"):
            assert encoding.sparsity == pytest.approx(zeros, abs=0.03)
    x = inputs()
    done = export_onnx(model, (x[:2],), tmp_path / "net.onnx", storage="packed", check_inputs=(x,))
    assert done.verdict.ok
    if method in ("sqs", "spfq_sign"):
        assert export_tflite(model, (x[:2],), tmp_path / "net.tflite", check_inputs=(x,)).verdict.ok


@pytest.mark.slow("networks are traced, exported and run")
def test_a_table_is_stored_as_index_and_entries(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 256), nn.ReLU(), nn.Linear(256, 64))
    report = compress(model, torch.randn(80, 8), bits=4, method="sqs")
    encoding = codeq.encode(model)["2.weight"]
    weight = CodedWeight(encoding.codes.numpy())
    assert weight.alphabet.size == 16
    assert encoding.bit_width == 8
    x = torch.randn(3, 8)
    done = export_onnx(model, (x,), tmp_path / "net.onnx", storage="packed", check_inputs=(x,))
    assert done.verdict.ok  # weights bit for bit
    stored = {tensor.name: tensor for tensor in onnx.load(tmp_path / "net.onnx").graph.initializer}
    largest = max(len(tensor.raw_data) for tensor in stored.values())
    assert largest <= 64 * 256 // 2  # half a byte for each weight
    assert report.weights[1].bits == 4


@pytest.mark.slow("a network is traced")
def test_stochastic_rounding_reports_its_bound_and_follows_its_seed(network: nn.Module) -> None:
    codes = []
    for seed in (0, 0, 1):
        model = copy.deepcopy(network)
        report = compress(model, inputs(), bits=4, method="spfq", seed=seed)
        codes.append(codeq.encode(model)["2.weight"].codes)
    assert torch.equal(codes[0], codes[1])
    assert not torch.equal(codes[0], codes[2])
    line = next(line for line in str(report).splitlines() if line.startswith("2.weight: error "))
    found = re.match(r"2\.weight: error (.*)%, bound (.*)% \(99% probable\), .*% clipped", line)
    assert found is not None, line
    assert 0 < float(found[1]) < float(found[2])


@pytest.mark.parametrize(
    ("name", "shape", "zeros", "expected"),
    [
        ("exact_obs", (1, 64, 576), 0.0, ("exact_obs", 4, 4, 0.0)),
        ("exact_obs", (1, 64, 576), 0.3, ("exact_obs", 4, 4, 0.0)),
        ("exact_obs", (1, 512, 4608), 0.3, ("obq", 4, 4, 0.3)),
        ("adaround", (1, 512, 4608), 0.0, ("adaround", 4, 4, 0.0)),
        ("adaround", (1, 512, 4608), 0.3, ("obq", 4, 4, 0.3)),
        ("sqs", (1, 512, 4608), 0.0, ("sqs", 8, 4, 0.0)),
        ("sqs", (2, 64, 64), 0.3, ("obq", 4, 4, 0.3)),
        ("gpfq", (1, 64, 64), 0.3, ("gpfq", 4, 4, 0.3)),
        ("spfq", (4, 8, 64), 0.3, ("spfq", 4, 4, 0.3)),
        ("spfq_sign", (4, 8, 64), 0.3, ("spfq_sign", 2, 1, 0.0)),
    ],
)
def test_what_a_layer_gets(name: str, shape: tuple[int, int, int], zeros: float, expected: tuple[object, ...]) -> None:
    picked = pick(name, shape, bits=4, zeros=zeros, seed=0)
    problem = problem_of(3, 10, 0)
    pruned = float((picked.reference(problem) == 0).double().mean())
    assert pruned == pytest.approx(zeros - picked.zeros if name != "spfq_sign" else 0.0, abs=0.04)
    assert (picked.name, picked.bits, picked.index_bits, picked.zeros) == expected
