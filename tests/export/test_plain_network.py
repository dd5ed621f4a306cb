"""A plain network asked for as integers is compressed on the way; an attached one that nobody trained is told apart."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import codeq
from codeq.compress import compress
from codeq.quantizer.attach import describe
from codeq.quantizer.classes import Classes
from export import check_parity, export_onnx
from export.errors import ExportError
from export.plain_network import weight_signal
from export.report import Report
from tests.stock_session import stock_session

pytestmark = pytest.mark.slow("networks are exported")


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 8, 3), nn.Flatten())
    with torch.no_grad():  # channels that one range per tensor does not suit
        model[0].weight.mul_(torch.logspace(-2, 1, 16).reshape(-1, 1, 1, 1))
    return model.eval()


INPUTS = torch.randn(40, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def exported(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Report:
    path = tmp_path_factory.mktemp("plain") / "net.onnx"
    batches = iter([INPUTS[:20], INPUTS[20:]])  # can be read once
    return export_onnx(network, (INPUTS[:2],), path, activations="int8", calibration=batches)


def test_a_plain_network_becomes_integers(network: nn.Module, exported: Report) -> None:
    assert exported.verdict.ok
    assert exported.kernels
    assert all(kernel.is_integer for kernel in exported.kernels)
    assert [weight.bit_width for weight in exported.weights] == [8, 8]
    (note,) = (note for note in exported.notes if "had no quantizers" in note)
    assert note in exported.to_dict()["notes"]
    assert not exported.warnings
    assert not list(codeq.quantizer.attach.quantized_weights(network))  # type: ignore[attr-defined]


def test_the_file_answers_as_the_float_network(network: nn.Module, exported: Report) -> None:
    session = stock_session(exported.path)
    (found,) = session.run(None, {"input": INPUTS.numpy()})
    wanted = network(INPUTS).detach()
    noise = (torch.from_numpy(found) - wanted).square().sum() / wanted.square().sum()
    assert noise < 10**-2.5  # 25 dB


def test_parity_holds_against_what_was_compressed(network: nn.Module, exported: Report) -> None:
    assert exported.compressed is not None
    assert check_parity(exported.path, exported.compressed, (INPUTS,)).ok
    with pytest.raises(ExportError, match="hold it against the network it was made from"):
        check_parity(exported.path, network, (INPUTS,))


def test_float_activations_leave_a_plain_network_float(network: nn.Module, tmp_path: Path) -> None:
    report = export_onnx(network, (INPUTS[:2],), tmp_path / "net.onnx")
    assert report.compressed is None
    assert not report.weights


def test_quantizers_that_nobody_trained_are_told(network: nn.Module, tmp_path: Path) -> None:
    attached, compressed = copy.deepcopy(network), copy.deepcopy(network)
    with torch.no_grad():  # and weights that the 0.99 quantile cuts off
        attached[3].weight.mul_(1 + 40 * (torch.rand_like(attached[3].weight) > 0.993))
    codeq.attach(attached, bits=8)
    report = export_onnx(attached, (INPUTS[:2],), tmp_path / "attached.onnx", check_inputs=(INPUTS,))
    (warning,) = report.warnings
    assert "neither trained nor frozen" in warning
    assert f"WARNING               {warning[:20]}" in str(report)
    assert report.to_dict()["warnings"] == [warning]
    compress(compressed, INPUTS)
    assert not export_onnx(compressed, (INPUTS[:2],), tmp_path / "compressed.onnx").warnings
    codeq.freeze(attached)  # as training ends
    assert not export_onnx(attached, (INPUTS[:2],), tmp_path / "frozen.onnx").warnings


def test_what_weights_leave_is_shown_per_layer_and_per_output(network: nn.Module, tmp_path: Path) -> None:
    attached = copy.deepcopy(network)
    codeq.attach(attached, bits=4, granularity="channel")
    report = export_onnx(attached, (INPUTS[:2],), tmp_path / "net.onnx", check_inputs=(INPUTS,))
    assert report.activations is None
    measured = describe(attached, INPUTS)
    results = {row.name: row.result_decibels for row in measured.rows}
    signal = report.weight_signal
    assert signal is not None
    assert signal.inputs == len(INPUTS)
    assert signal.results == pytest.approx(results)
    assert signal.outputs == pytest.approx(measured.output_decibels)
    (line,) = (line for line in str(report).splitlines() if line.startswith("next to float weights"))
    assert f"outputs keep {signal.outputs[0]:.1f} dB" in line
    assert "worst layers" in line
    assert report.to_dict()["weight_signal"]["results"] == signal.results
    with torch.no_grad():
        changed = int((network(INPUTS).argmax(1) != attached.eval()(INPUTS).argmax(1)).sum())
    assert f"argmax differs on {changed} of {len(INPUTS)}" in line
    loud = replace(report, weight_signal=replace(signal, classes=Classes(2, 15)), untrained="")
    assert loud.warnings[0].startswith("next to the float network argmax differs on 2 of 15")
    assert not replace(loud, weight_signal=replace(signal, classes=Classes(1, 15))).warnings


def test_codes_alone_say_nothing_of_the_float_network(network: nn.Module, tmp_path: Path, exported: Report) -> None:
    compressed = copy.deepcopy(network)
    found = compress(compressed, INPUTS)
    report = export_onnx(compressed, (INPUTS[:2],), tmp_path / "compressed.onnx")
    assert report.weight_signal is None
    assert report.to_dict()["weight_signal"] is None
    assert "next to float weights" not in str(report)
    # Compressed on the way, the float network is at hand.
    assert exported.weight_signal is not None
    assert exported.weight_signal.outputs == pytest.approx(found.output_decibels)
    assert set(exported.weight_signal.results) == {"0.weight", "3.weight"}


def test_a_batch_that_is_not_full_is_not_measured(network: nn.Module) -> None:
    attached = copy.deepcopy(network)
    codeq.attach(attached, bits=4)
    assert weight_signal(attached, (INPUTS[:3],), (), 4) is None
    full = weight_signal(attached, (INPUTS,), (), 4)
    assert full is not None
    assert full.inputs == 4
    codeq.enable(attached, False)
    assert weight_signal(attached, (INPUTS,), (), None) is None
    codeq.enable(attached)
    codeq.freeze(attached)  # as training ends
    assert weight_signal(attached, (INPUTS,), (), None) is None


def test_what_cannot_be_walked_through_is_one_line(tmp_path: Path) -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.fc(x).reshape(4, 2, 2)
            return result

    with pytest.raises(ExportError, match=r"Fixed has no quantizers, and cannot be compressed on the way \(.*; call"):
        export_onnx(Fixed(), (torch.randn(4, 4),), tmp_path / "n.onnx", activations="int8", dynamic_batch=False)
