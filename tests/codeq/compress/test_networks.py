"""Eight bits, integer kernels: what is left of the outputs of networks as edge devices run them."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from codeq.compress import compress
from codeq.quantizer.power import Power
from export import export_onnx, export_tflite
from export.backend import backend_of
from export.runner import run_batches
from tests.codeq.compress.trained_networks import NETWORKS, train

DECIBELS = 25.0
OUTLIERS = ("vit_outliers", "bert_outliers")
"""One scale for a whole tensor cannot hold a channel of 20 times the others: weights alone keep what is asked for."""
PUSHED = ("unet_transposed",)
"""Trained on every push; the others, which take five to ten seconds each, nightly."""

pytestmark = pytest.mark.slow("networks are trained and exported")


def decibels(wanted: Tensor, found: Tensor) -> float:
    power = Power()
    power.add(wanted, found)
    return power.decibels


def names() -> list[Any]:
    return [pytest.param(name, marks=() if name in PUSHED else pytest.mark.full) for name in NETWORKS]


@pytest.mark.parametrize("name", names())
def test_the_outputs_keep_what_eight_bits_should_leave(name: str, tmp_path: Path) -> None:
    trained = train(name)
    assert trained.accuracy > 0.5  # it has learned something, by which its weights and ranges are those of a network
    with torch.no_grad():
        wanted = trained.model(trained.test)
    model = copy.deepcopy(trained.model)
    report = compress(model, trained.calibration)
    with torch.no_grad():
        left = decibels(wanted, model(trained.test))
    assert left > DECIBELS
    assert report.output_decibels[0] == pytest.approx(left, abs=3)
    assert report.largest_loss == ""
    for suffix, export in (("onnx", export_onnx), ("tflite", export_tflite)):
        path = tmp_path / f"net.{suffix}"
        made: Any = export(
            copy.deepcopy(model), (trained.calibration[:2],), path, activations="int8", calibration=trained.calibration,
            check_inputs=(trained.calibration[:16],),
        )  # fmt: skip
        runner = backend_of(path).open_runner(path, threads=1)
        runner.open()
        (found,) = run_batches(runner, (trained.test,), 50)
        kept = decibels(wanted, torch.from_numpy(found))
        if name in OUTLIERS:
            assert kept < DECIBELS  # the day that this fails, README has good news to tell
            assert "worst layers" in str(made)
        else:
            assert kept > DECIBELS
