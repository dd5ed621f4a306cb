"""One verdict: every kind of failure vetoes alone and is named, and it reads well for people and machines."""

import json
from dataclasses import replace
from typing import Any

import pytest

from export.parity.checks import CodesCheck, LayerKernel, OutputCheck, ReportedComparison, WeightCheck
from export.parity.verdict import ParityError, Verdict

pytestmark = pytest.mark.quick

WEIGHT = WeightCheck("stage1.block1.conv1.weight", "stage1.block1.bn1", True)
OUTPUT = OutputCheck("output", "enable_all", 3, 1e-6, 2e-5, 1.0, 0, True)
CODES = CodesCheck("stage1.block1.conv1", "enable_all", "QLinearConv", True, 4096, 0, 0, 0.0, True)
FLOAT_CODES = replace(CODES, name="fc", kernel="Gemm", exact=False, elements=10, differing=1, max_step=1)
KERNELS = (
    LayerKernel("stage1.block1.conv1", "conv2d", "QLinearConv"),
    LayerKernel("fc", "linear", "Gemm", "its weight is float"),
)
FLOAT = Verdict("onnxruntime", "1.2.3", 5, (WEIGHT,), (OUTPUT,))
INTEGER = replace(
    FLOAT,
    outputs=(replace(OUTPUT, differing=0, fed_error=0.0),),
    codes=(CODES, FLOAT_CODES),
    kernels=KERNELS,
    program_error=1e-6,
    program_tolerance=1e-5,
    reported=(ReportedComparison("fake-quantized", 0.25, 1),),
)
FAILURES: list[tuple[dict[str, Any], str]] = [
    (
        {"weights": (WEIGHT, replace(WEIGHT, name="fc.weight", ok=False, reason="3 of 9 values differ"))},
        "fc.weight: 3 of 9 values differ",
    ),
    (
        {"program_error": 2e-5},
        "the reference program is off the network by 2e-05, above 1e-05",
    ),
    (
        {"program_error": float("nan")},
        "the reference program is off the network by nan, above 1e-05",
    ),
    (
        {"codes": (CODES, replace(CODES, name="fc", differing=2, max_step=7, ok=False))},
        "fc at enable_all (QLinearConv): 2 of 4096 codes differ from the integer reference, by up to 7",
    ),
    (
        {"outputs": (OUTPUT, replace(OUTPUT, output="mask", ok=False, reason="4 elements differ"))},
        "mask at enable_all, batch 3: 4 elements differ",
    ),
    (
        {"outputs": (OutputCheck.failed("mask", "basic", 1, "NaN or infinite values"),)},
        "mask at basic, batch 1: NaN or infinite values",
    ),
]


def test_what_holds() -> None:
    for verdict in (FLOAT, INTEGER):
        assert verdict.ok
        assert verdict.first_failure == ""


@pytest.mark.parametrize(("change", "reason"), FAILURES, ids=[reason for _, reason in FAILURES])
def test_one_failure_is_enough_and_is_named(change: dict[str, Any], reason: str) -> None:
    verdict = replace(INTEGER, **change)
    assert not verdict.ok
    assert verdict.first_failure == reason
    assert verdict.to_dict()["first_failure"] == reason
    assert "FAILED" in str(verdict)
    error = ParityError(verdict)
    assert (error.verdict, str(error)) == (verdict, f"parity does not hold: {reason}")


def test_what_does_not_decide_never_vetoes() -> None:
    default = OutputCheck.failed("output", "enable_all, default options", 1, "off", decides=False)
    verdict = replace(FLOAT, outputs=(OUTPUT, default))
    assert verdict.ok
    assert "would fail" in str(verdict)
    assert (verdict.max_abs_error, verdict.tolerance) == (1e-6, 2e-5)


def test_codes_of_a_setting_that_only_reports_never_veto() -> None:
    off = replace(FLOAT_CODES, setting="disable_all", ok=False, max_step=3, decides=False)
    verdict = replace(INTEGER, codes=(replace(CODES, setting="disable_all", decides=False), off, CODES, FLOAT_CODES))
    assert verdict.ok
    assert "FAILED" not in str(verdict)
    assert not replace(INTEGER, codes=(CODES, replace(off, decides=True))).ok


def test_codes_are_counted_by_kind_of_kernel() -> None:
    assert (INTEGER.differing(exact=True), INTEGER.elements(exact=True)) == (0, 4096)
    assert (INTEGER.differing(exact=False), INTEGER.elements(exact=False)) == (1, 10)
    assert INTEGER.summary == "codes differ: 0 of 4,096, in float kernels 1 of 10; 5 inputs: ok"
    assert FLOAT.summary == "max_abs_error 1.0e-06 <= 2.0e-05 on 5 inputs, weights bit for bit: ok"


def test_an_approximate_file_says_how_far_it_is_off() -> None:
    """Off by 2 where 25 is a quarter: 2 % of the largest magnitude."""
    output = replace(OUTPUT, max_abs_error=2.0, tolerance=25.0, argmax_differences=1)
    verdict = replace(FLOAT, outputs=(output,), approximate=True)
    text = "approximate (hybrid): outputs off by 2.0e+00, 2.00% of the largest (limit 25%), argmax differs on 1"
    assert verdict.figures == text
    assert verdict.summary == f"{text}, weights bit for bit: ok"
    assert "approximate (hybrid)" in str(verdict)


@pytest.mark.parametrize("change", [{}, *(change for change, _ in FAILURES if change.get("program_error") is None)])
def test_machines_get_plain_json(change: dict[str, Any]) -> None:
    values = replace(INTEGER, **change).to_dict()
    assert json.loads(json.dumps(values, allow_nan=False))["runtime"] == "onnxruntime"
    assert [row["integer"] for row in values["kernels"]] == [True, False]
    assert all(row["max_abs_error"] != float("inf") for row in values["outputs"])


@pytest.mark.parametrize("columns", [80, 100])
@pytest.mark.parametrize("verdict", [FLOAT, INTEGER, *(replace(INTEGER, **change) for change, _ in FAILURES)])
def test_its_text_fits_the_terminal(verdict: Verdict, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = str(verdict).splitlines()
    assert max(map(len, lines)) <= columns
    assert lines[-1].startswith("parity    5 inputs, onnxruntime 1.2.3: ")
