"""Mutants of small files go through the commands, and not one is a finding."""

import random
from pathlib import Path

import pytest

import codeq
from runtime_tests.fuzz.checkpoint_files import mutate
from runtime_tests.fuzz.run import fuzz
from runtime_tests.fuzz.samples import write_checkpoints


@pytest.mark.slow("two hundred mutants through two commands, twenty of them through a third")
def test_no_mutant_of_an_onnx_file_is_a_finding() -> None:
    report = fuzz("onnx", count=200, seed=0, rarely=10)
    assert not report.findings, str(report)
    assert report.outcomes["inspect"]["2"] > 100
    assert report.outcomes["inspect"]["0"] > 10
    assert sum(report.outcomes["parity"].values()) == 20


@pytest.mark.slow("two hundred mutants through two commands, twenty of them through a third")
def test_no_mutant_of_a_tflite_file_is_a_finding() -> None:
    report = fuzz("tflite", count=200, seed=0, rarely=10)
    assert not report.findings, str(report)
    assert report.outcomes["inspect"]["2"] > 100
    assert report.outcomes["inspect"]["0"] > 10
    assert sum(report.outcomes["parity"].values()) == 20


@pytest.mark.slow("two hundred checkpoints are read")
def test_a_mutant_of_a_checkpoint_is_read_or_refused_in_one_line(tmp_path: Path) -> None:
    """Those of them that are read go on to training and export in `full`."""
    samples = [file.read_bytes() for file in write_checkpoints(tmp_path)]
    path, refusals = tmp_path / "net.pt", list[str]()
    for number in range(200):
        mutant, _ = mutate(samples[number % len(samples)], random.Random(f"0/{number}"))
        path.write_bytes(mutant)
        try:
            codeq.load(path)
        except codeq.CheckpointError as error:
            refusals.append(str(error))
    assert 100 < len(refusals) < 190
    assert all(line.isprintable() and line.startswith(str(path)) for line in refusals)


@pytest.mark.full
def test_no_mutant_of_a_checkpoint_is_a_finding() -> None:
    report = fuzz("checkpoint", count=16, seed=0, rarely=8)
    assert not report.findings, str(report)
    assert report.outcomes["resume"]["2"] > 8
    assert report.outcomes["init"]["0"] > 1
    assert sum(report.outcomes["export"].values()) == 2


@pytest.mark.full
@pytest.mark.parametrize(("kind", "count", "every"), [("onnx", 4500, 4), ("tflite", 4500, 4), ("checkpoint", 1000, 10)])
def test_no_mutant_of_ten_thousand_is_a_finding(kind: str, count: int, every: int) -> None:
    report = fuzz(kind, count=count, seed=1, rarely=every)
    assert not report.findings, str(report)
