"""What quantizers leave: by hand on grids of whole numbers, on every kind of inputs, and with nothing changed."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import codeq
from codeq.errors import CalibrationError
from codeq.quantizer.attach import AttachReport, attach, describe, quantized_weights
from codeq.quantizer.dead_zone import DeadZoneQuantizer
from codeq.quantizer.power import LIMIT_DB
from codeq.quantizer.signal import NetworkSignal, weight_decibels

pytestmark = pytest.mark.quick


class Chain(nn.Module):
    """Calls one layer twice, computes in place behind it, has two outputs, and a layer that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.unused = (nn.Linear(4, 4, bias=False) for _ in range(3))

    def forward(self, x: Tensor, scale: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = x if scale is None else x * scale
        hidden = self.one(self.one(x)).relu_()
        return self.two(hidden), hidden


def build() -> Chain:
    torch.manual_seed(0)
    return Chain()


def decibels(wanted: list[Tensor], found: list[Tensor]) -> float:
    signal = sum(float(tensor.detach().double().square().sum()) for tensor in wanted)
    noise = sum(float((a - b).detach().double().square().sum()) for a, b in zip(wanted, found, strict=True))
    return 10 * float(torch.log10(torch.tensor(signal / noise, dtype=torch.float64)))


def test_by_the_definition(rng: torch.Generator) -> None:
    x = torch.randn(60, 4, generator=rng)  # three batches
    plain, network = build(), build()
    report = attach(network, 3, inputs=x)
    one, two = (codeq.encode(network)[f"{name}.weight"].dequantize() for name in ("one", "two"))
    first, found_first = x @ plain.one.weight.T, x @ one.T
    second, found_second = first @ plain.one.weight.T, found_first @ one.T
    outputs = [(second.relu() @ plain.two.weight.T, found_second.relu() @ two.T), (second.relu(), found_second.relu())]
    rows = {row.name: row for row in report.rows}
    assert rows["one.weight"].weight_decibels == pytest.approx(decibels([plain.one.weight], [one]))
    assert rows["one.weight"].result_decibels == pytest.approx(
        decibels([first, second], [found_first, found_second]), rel=1e-4
    )
    assert rows["two.weight"].result_decibels == pytest.approx(report.output_decibels[0])
    assert report.output_decibels == pytest.approx([decibels([a], [b]) for a, b in outputs], rel=1e-4)
    assert rows["unused.weight"].weight_decibels is not None
    assert rows["unused.weight"].result_decibels is None
    assert report.inputs == 60
    assert "untrained, outputs keep" in str(report)
    lost = replace(report, output_decibels=(40.0, 14.9))
    assert "too little to export; train it, or choose codes without training: codeq.compress" in str(lost)
    assert "too little" not in str(replace(report, output_decibels=(40.0, 15.1)))


def test_without_inputs_weights_alone() -> None:
    network = build()
    report = attach(network, 4)
    assert [row.result_decibels for row in report.rows] == [None] * 3
    assert (report.inputs, report.output_decibels) == (0, ())
    assert "outputs" not in str(report)
    assert str(report).count(" dB") == 3
    assert report.to_dict()["rows"][0]["weight_decibels"] == report.rows[0].weight_decibels


@pytest.mark.parametrize(
    "give",
    [
        lambda x: x,
        lambda x: x.numpy(),
        lambda x: (x, torch.ones(len(x), 1)),
        lambda x: {"x": x, "scale": torch.ones(len(x), 1)},
        lambda x: [(part, torch.zeros(len(part), dtype=torch.int64)) for part in x.split(7)],
        lambda x: iter(x.split(7)),
    ],
    ids=["tensor", "array", "tuple", "mapping", "batches with labels", "generator"],
)
def test_every_kind_of_inputs(give: Any, rng: torch.Generator) -> None:
    x = torch.randn(21, 4, generator=rng)
    assert attach(build(), 4, inputs=give(x)) == attach(build(), 4, inputs=x)


def test_nothing_is_changed(rng: torch.Generator) -> None:
    network = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Conv2d(4, 4, 3)).train()
    attach(network, 4)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for weight in quantized_weights(network):
        weight.quantizer.enabled = weight.name == "0.weight"
    state = torch.get_rng_state()
    report = describe(network, torch.randn(3, 2, 8, 8, generator=rng))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(module.training for module in network.modules())
    assert [weight.quantizer.enabled for weight in quantized_weights(network)] == [True, False]
    assert not any(module._forward_hooks for module in network.modules())
    assert report.inputs == 3


@pytest.mark.parametrize("inputs", [torch.zeros(0, 4), "images/"])
def test_a_network_whose_inputs_do_not_fit_is_as_it_came(inputs: Tensor | Iterable[str]) -> None:
    network = build()
    with pytest.raises(CalibrationError, match="inputs"):
        attach(network, 4, inputs=inputs)
    assert not list(quantized_weights(network))
    assert isinstance(attach(network, 4), AttachReport)


def test_attention_has_the_result_of_the_whole(rng: torch.Generator) -> None:
    torch.manual_seed(0)

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.attention(x, x, x)[0]
            return result

    report = attach(Attention(), 4, inputs=torch.randn(5, 6, 8, generator=rng))
    rows = {row.name: row for row in report.rows}
    assert rows["attention.in_proj_weight"].result_decibels == pytest.approx(report.output_decibels[0])


@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        (torch.tensor([[1.0, -1.0, 0.0, 1.0]]), LIMIT_DB),
        (torch.tensor([[float("nan"), 1.0]]), None),
        (torch.ones(2, 2, dtype=torch.float16), None),
        (torch.ones(2, 2, device="meta"), None),
    ],
    ids=["codes", "NaN", "half", "meta"],
)
def test_weights_without_codes(weight: Tensor, expected: float | None) -> None:
    quantizer = DeadZoneQuantizer(2)
    found = weight_decibels(weight, quantizer)
    assert (found is None) == (expected is None)
    assert found is None or found > 100


def test_numbers_for_a_checkpoint() -> None:
    signal = NetworkSignal(7, {"a.weight": 12.5, "b/c.weight": 3.0}, (20.0, -1.0))
    metrics = {"test_accuracy": 0.5, **signal.to_metrics()}
    assert all(isinstance(value, float) for value in metrics.values())
    assert NetworkSignal.from_metrics(metrics) == signal
    for damage in ({"decibels/inputs": "many"}, {"decibels/results/a.weight": None}):
        assert NetworkSignal.from_metrics({**metrics, **damage}) is None
    assert NetworkSignal.from_metrics({"test_accuracy": 0.5}) is None
