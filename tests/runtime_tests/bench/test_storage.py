"""The storage and scaling experiments on networks small enough for a test."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import codeq
from runtime_tests.bench.compare import sample_network
from runtime_tests.bench.scaling import measure_export
from runtime_tests.bench.storage import draw_codes, measure_storage


def test_drawn_codes_have_the_zeros_asked_for() -> None:
    model, _ = sample_network("resnet8")
    draw_codes(model, 0.8)
    encodings = codeq.encode(model)
    zeros = sum(encoding.codes.numel() - encoding.nnz for encoding in encodings.values())
    total = sum(encoding.codes.numel() for encoding in encodings.values())
    assert zeros / total == pytest.approx(0.8, abs=0.01)
    levels = torch.cat([encoding.levels.flatten().abs() for encoding in encodings.values()])
    shares = torch.bincount(levels[levels > 0].int(), minlength=8)[1:] / (levels > 0).sum()
    assert float(shares[0]) == pytest.approx(0.3155, abs=0.02)
    assert float(shares[6]) == pytest.approx(0.1415, abs=0.02)


def test_measure_storage_compares_with_dense() -> None:
    report = measure_storage("resnet8", [0.9], ["packed", "packed"], "float32", seconds=0.0, threads=1)
    dense, packed = report.results
    assert (dense.storage, packed.storage) == ("dense", "packed")
    assert dense.session_over_dense == dense.latency_over_dense == 1
    assert packed.bench.size_bytes < 0.4 * dense.bench.size_bytes
    assert packed.size_over_bound == pytest.approx(packed.bench.size_bytes / packed.entropy_bytes)
    assert packed.transient_bytes > dense.transient_bytes == 0
    assert "of dense" in str(report)
    assert report.to_dict()["seed"] == 0


def test_measure_export_counts_parameters() -> None:
    growth = measure_export(1, "packed")
    assert growth.parameters == 2048**2
    assert growth.size_bytes < 1.1 * growth.entropy_bytes
    assert growth.peak_memory_bytes > growth.parameters


def test_the_commands(run_command: Any, tmp_path: Path) -> None:
    done = run_command(
        "runtime_tests.storage", "resnet8", "--zeros", 0.9, "--storage", "packed", "--seconds", 0, "--json", "a.json",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 100
    values = json.loads((tmp_path / "a.json").read_text())
    assert [result["storage"] for result in values["results"]] == ["dense", "packed"]
    for arguments in (["runtime_tests.storage", "nothing"], ["runtime_tests.scaling", "--millions", 0]):
        done = run_command(*arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
