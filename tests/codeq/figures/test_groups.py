"""Seeds together, and the Pareto front, by hand."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codeq.figures.groups import group_runs, missing_measure, pareto_front
from codeq.run_log import Run

pytestmark = pytest.mark.quick

MakeRun = Callable[..., Run]


@pytest.fixture
def make_run(result_record: Callable[..., dict[str, Any]]) -> MakeRun:
    def make(name: str, accuracy: float | None = 0.9, bops: float | None = 0.02, size: float = 4000.0) -> Run:
        return Run(name, Path(f"{name}.jsonl"), {}, (), result_record(accuracy, bops, size))

    return make


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (["net-s0", "net-s12"], ["net"]),
        (["net-seed0", "net-s1", "net"], ["net"]),
        (["net-lambda0.1", "net-lambda0.2"], ["net-lambda0.1", "net-lambda0.2"]),
        (["net-s", "net-s1x", "nets1", "net-seeds1"], ["net-s", "net-s1x", "nets1", "net-seeds1"]),
        (["-s1"], ["-s1"]),
        (["a-s1-s2", "a-s1-s3"], ["a-s1"]),
    ],
)
def test_names_without_their_seed(make_run: MakeRun, names: list[str], groups: list[str]) -> None:
    assert [group.name for group in group_runs(map(make_run, names))] == groups


def test_mean_and_deviation_by_hand(make_run: MakeRun) -> None:
    group, single = group_runs(
        [make_run("a-s0", 0.90, 0.02), make_run("a-s1", 0.93, 0.04), make_run("a-s2", 0.96, 0.03), make_run("b")]
    )
    assert group.mean("test_accuracy") == pytest.approx(0.93)
    assert group.deviation("test_accuracy") == pytest.approx(0.03)  # sqrt((0.03^2 + 0 + 0.03^2) / 2)
    assert group.mean("relative_bops") == pytest.approx(0.03)
    assert group.deviation("relative_bops") == pytest.approx(0.01)
    assert group.mean("sparsity") == 0.75
    assert group.mean("mean_bits") == 4.5
    assert single.deviation("test_accuracy") is None


def test_front_by_hand(make_run: MakeRun) -> None:
    points = {
        "costly": (0.95, 0.50),
        "cheap": (0.80, 0.01),
        "middle": (0.90, 0.10),
        "below": (0.85, 0.20),  # middle is better in both
        "tie": (0.90, 0.12),  # as accurate as middle at more cost
        "weaker": (0.79, 0.01),  # as cheap as cheap, less accurate
        "twin": (0.90, 0.10),
    }
    groups = group_runs([make_run(name, accuracy, bops, 1e6 - bops) for name, (accuracy, bops) in points.items()])
    assert [group.name for group in pareto_front(groups, "relative_bops")] == ["cheap", "middle", "twin", "costly"]
    # Bytes fall where BOPs rise: the most accurate is the smallest, too.
    assert [group.name for group in pareto_front(groups, "entropy_bytes")] == ["costly"]
    assert pareto_front([], "relative_bops") == []


def test_the_front_is_of_means(make_run: MakeRun) -> None:
    runs = [make_run("a-s0", 0.99, 0.1), make_run("a-s1", 0.79, 0.1), make_run("b", 0.90, 0.1)]
    assert [group.name for group in pareto_front(group_runs(runs), "relative_bops")] == ["b"]


def test_why_a_run_cannot_be_compared(make_run: MakeRun) -> None:
    assert missing_measure(make_run("a")) == ""
    assert missing_measure(make_run("a", accuracy=None)) == "its result has no test_accuracy"
    assert missing_measure(make_run("a", bops=None)) == "its result has no relative_bops"
    assert missing_measure(Run("a", Path("a"), {}, (), None)) == "no result record"
    assert not math.isnan(group_runs([make_run("a")])[0].mean("entropy_bytes"))
