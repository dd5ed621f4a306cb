"""Channels die where the others make up for them, by an independent account of what a layer loses."""

import copy
import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import codeq
from codeq.channels.spaces import NONE, find_spaces
from codeq.compress import compress
from codeq.compress.dead_channels import _Reader, on_live_columns
from codeq.compress.problem import LayerProblem
from codeq.errors import CompressError, KernelTimesError
from codeq.quantizer.attach import quantized_weights
from export import export_onnx
from tests.codeq.channels.tables import table_of

X = torch.randn(160, 3, 8, 8, generator=torch.Generator().manual_seed(4))


def problem(outputs: int, columns: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(4 * columns, columns, generator=generator, dtype=torch.float64)
    x = x @ torch.randn(columns, columns, generator=generator, dtype=torch.float64)  # columns that tell of each other
    return torch.randn(outputs, columns, generator=generator, dtype=torch.float64), x


def least_squares(weight: Tensor, x: Tensor, live: np.ndarray) -> tuple[Tensor, float]:
    """The weights of the columns that live which answer as all did, by PyTorch's own solver, and what they miss."""
    wanted = x @ weight.T
    found = torch.linalg.lstsq(x[:, live], wanted).solution
    return found.T, float((x[:, live] @ found - wanted).square().sum() / len(x))


@pytest.mark.quick
def test_losses_and_what_makes_up_for_them_are_those_of_least_squares() -> None:
    weight, x = problem(5, 12, 0)
    channels = np.array([0, 0, 1, 1, 2, 2, NONE, NONE, 3, 3, 4, 4])
    reader = _Reader(weight.clone(), torch.linalg.inv(x.T @ x / len(x)), channels, scale=2.0)
    losses = reader.losses(6)
    for channel in range(5):
        _, missed = least_squares(weight, x, channels != channel)
        assert losses[channel] == pytest.approx(2 * missed)
    assert losses[5] == 0  # it does not read that one
    live = np.array([True, False, True, False, True, True])
    reader.lose(live)
    kept = np.isin(channels, [0, 2, 4, NONE])
    expected, before = least_squares(weight, x, kept)
    torch.testing.assert_close(reader.weight[:, kept], expected)
    assert not reader.weight[:, ~kept].any()
    kept[channels == 2] = False  # one more, beside those that are gone
    assert reader.losses(6)[2] == pytest.approx(2 * (least_squares(weight, x, kept)[1] - before))
    assert reader.losses(6)[1] == 0


@pytest.mark.quick
def test_what_is_left_answers_for_all() -> None:
    weight, x = problem(5, 12, 1)
    live = torch.tensor([True] * 8 + [False] * 4)
    moments = x.T @ x / len(x)
    smaller = on_live_columns(LayerProblem(weight.float(), moments, moments), live)
    expected, least = least_squares(weight, x, live.numpy())
    missed = float((x[:, live] @ smaller.weight.double().T - x @ weight.T).square().sum() / len(x))
    own = float((x[:, ~live] @ weight[:, ~live].T).square().sum() / len(x))
    assert least <= missed < 0.5 * (least + own)  # damped, so a little more than the least
    assert smaller.weight.shape == expected.shape
    assert smaller.cross is None
    torch.testing.assert_close(smaller.moments, moments[live][:, live])


class Wide(nn.Module):
    """A residual network with channels that nobody needs: two of three are copies of others, or nearly nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24)
        self.middle, self.last = nn.Conv2d(24, 24, 3, padding=1), nn.Conv2d(24, 24, 1)
        self.fc = nn.Linear(24, 6)
        with torch.no_grad():
            self.middle.weight[8:16] = self.middle.weight[:8]
            self.middle.bias[8:16] = self.middle.bias[:8]  # type: ignore[index]
            self.last.weight[:, 16:] *= 1e-3

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.first(x)))
        x = x + self.last(F.relu(self.middle(x)))
        result: Tensor = self.fc(x.mean((2, 3)))
        return result


def wide() -> nn.Module:
    torch.manual_seed(0)
    network = Wide()
    with torch.no_grad():
        for _ in range(10):
            network.train()(X)
    return network.eval()


@pytest.mark.slow("a network is traced and walked through")
@pytest.mark.parametrize(("bits", "zeros"), [(8, 0.0), (4, 0.0), (4, 0.3)])
def test_what_nobody_needs_goes_first(bits: int, zeros: float, tmp_path: Path) -> None:
    network, floats = wide(), wide()
    report = compress(network, X, bits=bits, zeros=zeros, macs=0.5)
    assert report.channels is not None
    assert report.channels.reached == pytest.approx(0.5, abs=0.04)  # of so few channels one is a lot
    assert "of the multiply-adds" in str(report).split("channels: ")[1]
    live = {weight.name: weight.quantizer.live for weight in quantized_weights(network)}["last.weight"]
    assert not live[16:].any()
    assert (live[:8] | live[8:16]).all()  # of a channel and its copy one goes at most
    assert (live[:8] ^ live[8:16]).sum() >= 4
    plain = compress(wide(), X, bits=bits, zeros=zeros)
    assert report.output_decibels[0] > min(plain.output_decibels[0], 20.0) - 6.0
    small = codeq.shrink(network, X[:2], fold_constants=False).model
    assert codeq.summary(small, (3, 8, 8)).macs == report.channels.shrunk.macs[1]
    with torch.no_grad():
        torch.testing.assert_close(small(X), network.eval()(X), atol=1e-4, rtol=0)
        error = network(X) - floats(X)
        assert float(floats(X).square().sum() / error.square().sum()) > 10
    verdict = export_onnx(network, (X[:2],), tmp_path / "net.onnx", activations="int8", calibration=X).verdict
    assert verdict.ok
    again = wide()
    compress(again, X, bits=bits, zeros=zeros, macs=0.5)
    for one, other in zip(network.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.slow("a network is traced, walked through and trained")
def test_distillation_keeps_the_dead_dead() -> None:
    network = wide()
    report = compress(network, X, bits=4, macs=0.4, distill=2)
    assert report.channels is not None
    assert report.distilled is not None
    assert report.channels.reached == pytest.approx(0.4, abs=0.04)
    assert report.distilled.decibels_after >= report.distilled.decibels_before


def test_a_miss_is_said() -> None:
    report = compress(wide(), X[:40], macs=0.5)
    assert report.channels is not None
    assert report.channels.met
    missed = dataclasses.replace(report, channels=dataclasses.replace(report.channels, target=0.3))
    assert any("of the multiply-adds 30.0% was to be left, and" in text for text in missed.warnings)


def test_latency_is_what_a_table_says(tmp_path: Path) -> None:
    attached = wide()
    codeq.attach(attached, 8, channels=True)
    times = table_of(find_spaces(attached, X[:2]))
    times.write(tmp_path / "times.json")
    network = wide()
    report = compress(network, X[:40], latency=0.6, kernel_times=tmp_path / "times.json")
    assert report.channels is not None
    assert report.channels.met
    assert report.channels.reached == pytest.approx(0.6, rel=0.1)
    assert report.channels.latency == times.of_network(codeq.shrink(network, X[:2], fold_constants=False).model)
    assert f"latency: {report.channels.reached:.1%} of the dense file's" in str(report)
    assert report.to_dict()["channels"]["kind"] == "latency"
    missed = dataclasses.replace(report, channels=dataclasses.replace(report.channels, target=0.3))
    assert any("of the latency 30.0% was to be left, and" in text for text in missed.warnings)


def test_what_it_refuses() -> None:
    network = wide()
    before = copy.deepcopy(network.state_dict())
    for macs in (0.0, 1.0, -0.5):
        with pytest.raises(CompressError, match="above 0 and below 1"):
            compress(network, X, macs=macs)
    with pytest.raises(CompressError, match="contradict each other"):
        compress(network, X, macs=0.5, budget=codeq.Budget("sparsity", 0.5))
    with pytest.raises(CompressError, match="zeros of 1x1 convolutions alone are a budget of training"):
        compress(network, X, budget=codeq.Budget("pointwise_sparsity", 0.5))
    with pytest.raises(CompressError, match="multiply-adds and latency to be left contradict each other"):
        compress(network, X, macs=0.5, latency=0.5, kernel_times="times.json")
    for half in ({"latency": 0.5}, {"kernel_times": "times.json"}):
        with pytest.raises(CompressError, match="latency and kernel_times go together"):
            compress(network, X, **half)  # type: ignore[arg-type]
    with pytest.raises(KernelTimesError, match=r"cannot read times\.json"):
        compress(network, X, latency=0.5, kernel_times="times.json")
    refusal = (
        r"^0\.1% of the multiply-adds cannot be left: (\d+\.\d)% is the least that this network's channels allow, with "
        r"about -?\d+\.\d dB of the outputs' signal left as predicted; ask for at least that$"
    )
    with pytest.raises(CompressError, match=refusal) as caught:
        compress(network, X, macs=0.001)
    said = re.match(refusal, str(caught.value))
    assert said is not None
    assert before.keys() == network.state_dict().keys()
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert compress(network, X, macs=float(said[1]) / 100).channels is not None
