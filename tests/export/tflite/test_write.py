"""What a .tflite file's report says of a runtime that would compute something else."""

from pathlib import Path

import pytest
import torch
from torch import nn

import codeq

pytest.importorskip("ai_edge_litert", reason="LiteRT is an extra: pip install '.[tflite]'")

from export.tflite import export_tflite

MICRO = "not for TensorFlow Lite Micro: its DEQUANTIZE takes one scale per tensor, and computes wrong numbers"


@pytest.mark.parametrize(
    ("activations", "count"),
    [("float32", "(1 of 2 here)"), ("int8", "")],
    ids=["weight-only", "int8, its float layer has one scale"],
)
def test_weights_that_micro_reads_wrong_are_named(tmp_path: Path, activations: str, count: str) -> None:
    """A folded BatchNorm gives its convolution a scale per channel; the linear layer keeps one."""
    layers = [nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16, 3)]
    model = nn.Sequential(*layers).eval()
    nn.init.uniform_(model[1].weight, 0.5, 2.0)
    codeq.attach(model)
    codeq.freeze(model)
    report = export_tflite(model, torch.randn(2, 2, 6, 6), tmp_path / "net.tflite", activations=activations)  # type: ignore[arg-type]
    said = [note for note in report.notes if note.startswith(MICRO)]
    assert [note.endswith(count) for note in said] == ([True] if count else [])
    assert ("not for TensorFlow Lite Micro" in str(report)) == bool(count)
