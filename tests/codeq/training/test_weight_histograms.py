"""Histograms of float weights: levels and dead zone are the quantizer's, every weight is counted once."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import codeq
from codeq.cost import summary
from codeq.quantizer.attach import quantized_weights
from codeq.run_log import RunLog, read_run
from codeq.training.weight_histograms import weight_histograms


@pytest.mark.parametrize("grid", ["integer", "paper"])
@pytest.mark.parametrize("bits", [2, 4])
def test_levels_and_dead_zone_are_the_quantizer_s(grid: str, bits: int) -> None:
    model = nn.Sequential(nn.Linear(32, 16), nn.Linear(16, 8))
    codeq.attach(model, bits=bits, grid=grid)
    with torch.no_grad():
        for weight in quantized_weights(model):
            weight.quantizer.theta_dz.fill_(0.8)
    entries = weight_histograms(model, bins=10)
    assert [entry["name"] for entry in entries] == ["0.weight", "1.weight"]
    for entry, weight in zip(entries, quantized_weights(model), strict=True):
        original = weight.original.detach()
        quantized = weight.quantizer(original).detach()
        assert set(quantized.unique().tolist()) <= set(entry["levels"])
        assert len(entry["levels"]) == 2**bits - 1
        assert entry["levels"] == sorted(entry["levels"])
        half = entry["dead_zone"] / 2
        zero = quantized == 0
        assert original[zero].abs().max() <= half * (1 + 1e-6)
        assert original[~zero].abs().min() >= half * (1 - 1e-6)
        assert sum(entry["counts"]) == original.numel()
        assert len(entry["counts"]) == 10
        assert entry["edges"] == [original.min().item(), original.max().item()]
        expected, _ = torch.histogram(original.double(), 10, range=tuple(entry["edges"]))
        assert entry["counts"] == expected.int().tolist()


def test_levels_by_hand() -> None:
    """Range 1 (all weights of that size), 2 bits: dead zone 2 (1 - tanh 3), one level per sign at the range."""
    model = nn.Linear(4, 2)
    codeq.attach(model, bits=2, grid="paper", overrides=None)
    with torch.no_grad():
        weight = next(quantized_weights(model))
        weight.original.copy_(torch.tensor([[1.0, -1.0, 1.0, -1.0]] * 2))
        weight.quantizer.theta_dz.fill_(0.5)
    (entry,) = weight_histograms(model)
    half = 1 - torch.tanh(torch.tensor(0.5)).item()
    step_size = (1 - half) / 0.5
    top = step_size + half - step_size / 2
    assert entry["levels"] == pytest.approx([-top, 0, top])
    assert entry["dead_zone"] == pytest.approx(2 * half)
    assert entry["counts"][0] == entry["counts"][-1] == 4


def test_constant_and_shared_weights() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    nn.init.zeros_(model[0].weight)
    codeq.attach(model)
    (entry,) = weight_histograms(model)
    assert entry["edges"] == [-1.0, 1.0]
    assert sum(entry["counts"]) == 16
    assert weight_histograms(nn.Linear(2, 2)) == []


def test_a_weight_with_nan_is_named() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    codeq.attach(model)
    with torch.no_grad():
        next(quantized_weights(model)).original[0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"0.weight: .*NaN"):
        weight_histograms(model)


def test_a_real_result_fits(tmp_path: Path, start_record: dict[str, Any]) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2))
    codeq.attach(model, exclude="1")
    cost = summary(model, (8,)).to_dict()
    with RunLog(tmp_path / "net.jsonl") as log:
        log.write(start_record)
        log.write({"event": "result", "test_accuracy": 0.5, "cost": cost, "weights": weight_histograms(model)})
    result = read_run(tmp_path / "net.jsonl").result
    assert result is not None
    assert [layer["weight_bits"] for layer in result["cost"]["layers"]] == [4, 32]
