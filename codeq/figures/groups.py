"""Take runs together that differ in their seed alone, and find those that no other one beats (the Pareto front)."""

import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from codeq.run_log import Run

Cost = Literal["relative_bops", "entropy_bytes"]
Measure = Literal["test_accuracy", "sparsity", "mean_bits", "relative_bops", "entropy_bytes"]
COSTS: tuple[Cost, ...] = ("relative_bops", "entropy_bytes")
MEASURES: tuple[Measure, ...] = ("test_accuracy", "sparsity", "mean_bits", "relative_bops", "entropy_bytes")

SEED_SUFFIX = re.compile(r"(?<=.)-s(?:eed)?[0-9]+$")


@dataclass(frozen=True)
class RunGroup:
    """Holds finished runs of one recipe with different seeds; `name` is theirs without the seed."""

    name: str
    runs: tuple[Run, ...]

    def mean(self, measure: Measure) -> float:
        """Return the mean of a measure over the seeds."""
        return statistics.fmean(self._values(measure))

    def deviation(self, measure: Measure) -> float | None:
        """Return the standard deviation over the seeds, of a sample (n - 1); None for a single one."""
        values = self._values(measure)
        return statistics.stdev(values) if len(values) > 1 else None

    def _values(self, measure: Measure) -> list[float]:
        values = [read_measure(run, measure) for run in self.runs]
        assert None not in values, "missing_measure was not asked"
        return [value for value in values if value is not None]


def read_measure(run: Run, measure: Measure) -> float | None:
    """Read one number of a run's result; None where the run has not finished or the number was NaN."""
    if run.result is None:
        return None
    total = run.result if measure == "test_accuracy" else run.result["cost"]["total"]
    value: float | None = total[measure]
    return value


def missing_measure(run: Run) -> str:
    """Say why a run cannot be compared with others; empty where it can."""
    if run.result is None:
        return "no result record"
    return next((f"its result has no {name}" for name in MEASURES if read_measure(run, name) is None), "")


def group_runs(runs: Iterable[Run]) -> list[RunGroup]:
    """Put runs together whose names differ in a trailing `-s<digits>` or `-seed<digits>` alone.

    Args:
        runs: Runs for which `missing_measure` is empty.

    Returns:
        Groups in the order of their first run.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(SEED_SUFFIX.sub("", run.name), []).append(run)
    return [RunGroup(name, tuple(members)) for name, members in groups.items()]


def pareto_front(groups: Sequence[RunGroup], cost: Cost) -> list[RunGroup]:
    """Find the groups that no other one beats: at least as accurate at no more cost, and better in one of the two.

    Returns:
        By rising cost. Groups that are equal in both are all there.
    """
    points = [(group.mean(cost), group.mean("test_accuracy")) for group in groups]
    front = [
        (point, group)
        for point, group in zip(points, groups, strict=True)
        if not any(other != point and other[0] <= point[0] and other[1] >= point[1] for other in points)
    ]
    return [group for _, group in sorted(front, key=lambda entry: entry[0])]
