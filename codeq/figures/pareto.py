"""Draw accuracy against cost: runs as points, seeds averaged, and the Pareto front through them."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from codeq.figures.groups import COSTS, Cost, RunGroup, group_runs, pareto_front
from codeq.figures.labels import Box, place_labels
from codeq.figures.style import COLOURS, DOTS_PER_INCH, GREY, figure_style, fix_layout, new_figure, shorten
from codeq.run_log import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = "osD^vPX<>ph*"
MAX_DIRECT_LABELS = 12
"""More groups than this get a legend in place of names beside their points."""
LEADER_POINTS = 12
"""A label further than this from its point is tied to it by a line."""
LEGEND_COLUMNS = 2
MAX_LABEL, MAX_LEGEND_NAME = 36, 40
"""Longer names are shortened in the middle."""
PIXELS = DOTS_PER_INCH / 72
"""Pixels in a typographic point, the unit in which labels are placed."""


class _Point(NamedTuple):
    """Places a group of runs in the units of the axes; deviations are 0 for a single run."""

    name: str
    x: float
    y: float
    x_deviation: float
    y_deviation: float


def draw_pareto(runs: Sequence[Run], cost: Cost) -> "Figure":
    """Draw accuracy against cost, seeds averaged, with the Pareto front.

    Args:
        runs: Finished runs: `missing_measure` is empty for each. Those whose names differ in the seed alone
            (`group_runs`) are one point at their mean, with bars of one standard deviation.
        cost: "relative_bops" or "entropy_bytes", on a logarithmic axis. Points whose cost is 0 have no place there and
            are listed below it.

    Raises:
        CodeqError: matplotlib is not installed.
        ValueError: Another cost, or no run.
    """
    if cost not in COSTS:
        raise ValueError(f"cost must be one of {', '.join(COSTS)}, found {cost!r}")
    groups = group_runs(runs)
    if not groups:
        raise ValueError("there is no run to draw")
    label, factor = cost_unit(cost, max(group.mean(cost) for group in groups))
    points = [_place(group, cost, factor) for group in groups if group.mean(cost) > 0]
    front = [_place(group, cost, factor) for group in pareto_front(groups, cost) if group.mean(cost) > 0]
    with figure_style():
        legend_rows = math.ceil(len(points) / LEGEND_COLUMNS) if len(points) > MAX_DIRECT_LABELS else 0
        figure = new_figure(6.4, 4.2 + 0.19 * legend_rows)
        axes = figure.add_subplot()
        axes.set_xscale("log")
        for index, point in enumerate(points):
            axes.errorbar(
                point.x,
                point.y,
                xerr=point.x_deviation or None,
                yerr=point.y_deviation or None,
                color=COLOURS[index % len(COLOURS)],
                marker=MARKERS[index % len(MARKERS)],
                markersize=6,
                linestyle="none",
                elinewidth=1,
                capsize=2.5,
                label=shorten(point.name, MAX_LEGEND_NAME),
                zorder=3,
            )
        free = ", ".join(group.name for group in groups if group.mean(cost) <= 0)
        axes.set_xlabel(f"{label}\nat cost 0, not shown: {shorten(free, 80)}" if free else label)
        axes.set_ylabel("test accuracy (%)")
        deviations = any(point.x_deviation or point.y_deviation for point in points)
        note = "line: Pareto front" + ("; bars: one standard deviation over seeds" if deviations else "")
        axes.set_title(note, loc="right", fontsize=8, color=GREY)
        axes.grid(color="0.9", linewidth=0.6)
        axes.margins(0.12)
        tick_plainly(axes)
        if front:
            _draw_front(axes, front)
        if legend_rows:
            figure.legend(loc="outside lower center", ncols=LEGEND_COLUMNS, frameon=False)
        fix_layout(figure)
        if points and not legend_rows:
            _label_points(axes, points, front)
    return figure


def _place(group: RunGroup, cost: Cost, factor: float) -> _Point:
    return _Point(
        group.name,
        factor * group.mean(cost),
        100 * group.mean("test_accuracy"),
        factor * (group.deviation(cost) or 0.0),
        100 * (group.deviation("test_accuracy") or 0.0),
    )


def cost_unit(cost: Cost, largest: float) -> tuple[str, float]:
    """Choose the label of a cost axis with its unit, and what to multiply a cost by, from the largest on it."""
    if cost == "relative_bops":
        return "relative BOPs (% of dense 32 x 32 bits)", 100.0
    units = (("MB", 1e-6), ("kB", 1e-3))
    name, factor = next((unit for unit in units if largest * unit[1] >= 1), ("bytes", 1.0))
    return f"entropy bound of the codes ({name})", factor


def tick_plainly(axes: "Axes") -> None:
    """Write numbers in place of powers of ten; few decades get 1, 2, 5, and less than one round steps."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    low, high = axes.get_xlim()
    decades = math.log10(high / low)
    if decades < 0.7:
        axes.xaxis.set_major_locator(MaxNLocator(6))
    else:
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if decades > 4 else (1.0, 2.0, 5.0)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _draw_front(axes: "Axes", front: Sequence[_Point]) -> None:
    """Draw the best accuracy to be had at each cost: level up to the next point of the front, then up to it."""
    axes.autoscale(False)
    # Down to the frame at its start and on to the frame at its end: what lies below it is beaten.
    x = [front[0].x, *(point.x for point in front), axes.get_xlim()[1]]
    y = [axes.get_ylim()[0], *(point.y for point in front), front[-1].y]
    axes.plot(x, y, color="0.6", linewidth=1.2, drawstyle="steps-post", zorder=2, label="_front")


def _label_points(axes: "Axes", points: Sequence[_Point], front: Sequence[_Point]) -> None:
    """Write each group's name beside its point, in axes that stay where they are."""
    extent = axes.get_window_extent()
    frame = Box(*(edge / PIXELS for edge in extent.extents))

    def place(x: float, y: float) -> tuple[float, float]:
        """Data to typographic points."""
        pixels = axes.transData.transform((max(x, axes.get_xlim()[0]), y))
        return float(pixels[0]) / PIXELS, float(pixels[1]) / PIXELS

    obstacles = []
    for point in points:
        x, y = place(point.x, point.y)
        left, below = place(point.x - point.x_deviation, point.y - point.y_deviation)
        right, above = place(point.x + point.x_deviation, point.y + point.y_deviation)
        obstacles += [
            Box(x - 4, y - 4, x + 4, y + 4),
            Box(left, y - 0.5, right, y + 0.5),
            Box(x - 0.5, below, x + 0.5, above),
        ]
    corners = [place(point.x, point.y) for point in front]
    if corners:
        corners.append((frame.right, corners[-1][1]))
    for (x, y), (next_x, next_y) in pairwise(corners):
        obstacles += [Box(x, y - 1, next_x, y + 1), Box(next_x - 1, y, next_x + 1, next_y)]
    texts = [
        axes.annotate(
            shorten(point.name, MAX_LABEL),
            (point.x, point.y),
            xytext=(0, 0),
            textcoords="offset points",
            color="0.15",
            fontsize=8,
            arrowprops={"arrowstyle": "-", "color": "0.5", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 4},
        )
        for point in points
    ]
    extents = [text.get_window_extent() for text in texts]
    sizes = [(extent.width / PIXELS, extent.height / PIXELS) for extent in extents]
    centres = [place(point.x, point.y) for point in points]
    for text, centre, box in zip(texts, centres, place_labels(centres, sizes, obstacles, frame), strict=True):
        text.set_position((box.left - centre[0], box.bottom - centre[1]))
        assert text.arrow_patch is not None
        text.arrow_patch.set_visible(box.distance(*centre) > LEADER_POINTS)
