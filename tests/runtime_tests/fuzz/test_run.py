"""Mutants of small files go through the commands, and not one is a finding."""

import pytest

from runtime_tests.fuzz.run import fuzz


@pytest.mark.slow("two hundred mutants through two commands, fifty of them through a third")
def test_no_mutant_of_an_onnx_file_is_a_finding() -> None:
    report = fuzz("onnx", count=200, seed=0, rarely=4)
    assert not report.findings, str(report)
    assert report.outcomes["inspect"]["2"] > 100
    assert report.outcomes["inspect"]["0"] > 10
    assert sum(report.outcomes["parity"].values()) == 50


@pytest.mark.slow("two hundred mutants through two commands, twenty of them through a third")
def test_no_mutant_of_a_tflite_file_is_a_finding() -> None:
    report = fuzz("tflite", count=200, seed=0, rarely=10)
    assert not report.findings, str(report)
    assert report.outcomes["inspect"]["2"] > 100
    assert report.outcomes["inspect"]["0"] > 10
    assert sum(report.outcomes["parity"].values()) == 20


@pytest.mark.full
def test_no_mutant_of_a_checkpoint_is_a_finding() -> None:
    report = fuzz("checkpoint", count=16, seed=0, rarely=8)
    assert not report.findings, str(report)
    assert report.outcomes["resume"]["2"] > 8
    assert report.outcomes["init"]["0"] > 1
    assert sum(report.outcomes["export"].values()) == 2


@pytest.mark.full
@pytest.mark.parametrize(
    ("kind", "count", "every"), [("onnx", 10_000, 4), ("tflite", 10_000, 4), ("checkpoint", 2000, 8)]
)
def test_no_mutant_of_many_is_a_finding(kind: str, count: int, every: int) -> None:
    report = fuzz(kind, count=count, seed=1, rarely=every)
    assert not report.findings, str(report)
