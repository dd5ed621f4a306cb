"""Training runs are compared by their logs: a table over seeds, accuracy against cost, and pictures of each run."""

import logging
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codeq.errors import CodeqError, OutputError
from codeq.figures.groups import MEASURES, Cost, Measure, RunGroup, group_runs, missing_measure, pareto_front
from codeq.figures.pareto import draw_pareto
from codeq.figures.runs import draw_layers, draw_progress, draw_weights
from codeq.figures.style import save_figure
from codeq.run_log import Run, read_run
from codeq.toolkit.files import check_writable
from codeq.toolkit.table import fold_line, format_bytes, render_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

FIGURES: dict[str, Cost] = {"pareto-bops": "relative_bops", "pareto-bytes": "entropy_bytes"}


@dataclass(frozen=True)
class ParetoReport:
    """A comparison lists groups of runs by rising relative BOPs. `print(report)` shows a table.

    Attributes:
        groups: Runs that differ in their seed alone, taken together.
        left_out: Log to the reason for which its run is in no group.
        figures: The files written.
    """

    groups: tuple[RunGroup, ...]
    left_out: dict[str, str]
    figures: tuple[Path, ...] = ()

    def front(self, cost: Cost) -> list[RunGroup]:
        """List the groups that none beats, as in `pareto_front`."""
        return pareto_front(self.groups, cost)

    def to_dict(self) -> dict[str, Any]:
        fronts = {cost: self.front(cost) for cost in FIGURES.values()}
        groups = [
            {"name": group.name, "runs": [str(run.path) for run in group.runs]}
            | {name: group.mean(name) for name in MEASURES}
            | {f"{name}_deviation": group.deviation(name) for name in MEASURES}
            | {f"on_{cost}_front": group in front for cost, front in fronts.items()}
            for group in self.groups
        ]
        return {"groups": groups, "left_out": self.left_out, "figures": [str(path) for path in self.figures]}

    def __str__(self) -> str:
        rows = [
            (
                group.name,
                str(len(group.runs)),
                _percent(group, "test_accuracy"),
                f"{group.mean('sparsity'):.1%}",
                f"{group.mean('mean_bits'):.2f}",
                f"{group.mean('relative_bops'):.2%}",
                format_bytes(group.mean("entropy_bytes")),
                self._on_front(group),
            )
            for group in self.groups
        ]
        header = ("run", "seeds", "test accuracy", "zeros", "bits", "BOPs", "bound", "on the front")
        legend = "BOPs relative to dense 32 x 32 bits; bound: entropy of the codes"
        if any(len(group.runs) > 1 for group in self.groups):
            legend += "; +- one standard deviation"
        lines = [render_table(header, rows), fold_line(legend, 2)]
        if self.figures:
            lines.append(fold_line(f"{len(self.figures)} figures written to {self.figures[0].parent}{os.sep}", 2))
        return "\n".join(lines)

    def _on_front(self, group: RunGroup) -> str:
        bops, size = (group in self.front(cost) for cost in ("relative_bops", "entropy_bytes"))
        return {(True, True): "yes", (True, False): "BOPs only", (False, True): "bytes only"}.get((bops, size), "no")


def compare_runs(
    paths: Sequence[Path],
    folder: Path | None = None,
    *,
    suffix: str = ".png",
    force: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> ParetoReport:
    """Compare the finished runs among some logs, and draw them.

    Args:
        paths: Logs, or folders that hold logs (*.jsonl).
        folder: Where the figures go; made if it is missing. None draws nothing.
        suffix: .png or .svg.
        force: Overwrite figures.
        on_progress: Called with the number of figures written, and of all.

    Raises:
        CodeqError: A log cannot be read, no run has finished, two runs would write the same files, or matplotlib is
            not installed.
        OutputError: A figure cannot be written.
    """
    runs = [read_run(path) for path in find_logs(paths)]
    reasons = {str(run.path): reason for run in runs if (reason := missing_measure(run))}
    finished = [run for run in runs if str(run.path) not in reasons]
    if reasons:
        left_out = ", ".join(f"{path} ({reason})" for path, reason in reasons.items())
        if not finished:
            raise CodeqError(f"no run to compare: {left_out}")
        logger.warning("left out: %s", left_out)
    groups = tuple(sorted(group_runs(finished), key=lambda group: group.mean("relative_bops")))
    if folder is None:
        return ParetoReport(groups, reasons)
    drawings = _plan(finished, folder, suffix)
    read = {run.path.resolve() for run in runs}
    for target in drawings:
        if target.resolve() in read:
            raise OutputError(f"{target} is one of the logs; name another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror or error}") from error
    for target in drawings:
        check_writable(target, force=force)
    for done, (target, draw) in enumerate(drawings.items(), 1):
        save_figure(draw(), target, force=force)
        on_progress(done, len(drawings))
    return ParetoReport(groups, reasons, tuple(drawings))


def find_logs(paths: Iterable[Path]) -> list[Path]:
    """List every log that some arguments name, once each: a folder stands for the *.jsonl in it, by name.

    Raises:
        CodeqError: A folder holds none.
    """
    logs: dict[Path, Path] = {}
    for path in paths:
        found = sorted(filter(Path.is_file, path.glob("*.jsonl"))) if path.is_dir() else [path]
        if not found:
            raise CodeqError(f"{path}: the folder holds no *.jsonl")
        for log in found:
            logs.setdefault(log.resolve(), log)
    return list(logs.values())


def _plan(runs: Sequence[Run], folder: Path, suffix: str) -> "dict[Path, Callable[[], Figure]]":
    """Plan every file to write, and what draws it."""
    drawings: dict[Path, Callable[[], Figure]] = {
        folder / f"{name}{suffix}": lambda cost=cost: draw_pareto(runs, cost)  # type: ignore[misc]
        for name, cost in FIGURES.items()
    }
    by_name: dict[str, Run] = {}
    for run in runs:
        # A run may have any name, a file may not: no separators, no spaces, nothing hidden.
        name = re.sub(r"[^A-Za-z0-9._-]", "_", run.name).lstrip(".-") or "_"
        first = by_name.setdefault(name.casefold(), run)
        if first is not run:
            raise CodeqError(
                f"{first.path} and {run.path} would both write {name}-layers{suffix}; give one in a call of its own, "
                "with its own -o"
            )
        drawings[folder / f"{name}-layers{suffix}"] = lambda run=run: draw_layers(run)  # type: ignore[misc]
        if run.epochs:
            drawings[folder / f"{name}-progress{suffix}"] = lambda run=run: draw_progress(run)  # type: ignore[misc]
        if run.result and run.result["weights"]:  # a float run has no quantized ones
            drawings[folder / f"{name}-weights{suffix}"] = lambda run=run: draw_weights(run)  # type: ignore[misc]
    return drawings


def _percent(group: RunGroup, measure: Measure) -> str:
    deviation = group.deviation(measure)
    return f"{group.mean(measure):.2%}" + ("" if deviation is None else f" +- {deviation:.2%}")
