"""Draw what budgets would leave of a network that is compressed: the frontier as predicted, and where it ended."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from codeq.figures.pareto import cost_unit, tick_plainly
from codeq.figures.style import BLUE, GREY, VERMILION, figure_style, fix_layout, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CostOf = Literal["sparsity", "pointwise_sparsity", "bops", "size"]
"""Zeros over all weights or those of 1x1 convolutions, bit operations of the float network's, or bytes: the kinds of
`codeq.training.budget`."""


def draw_frontier(
    kind: CostOf, points: Sequence[tuple[float, float]], *, asked: float, reached: tuple[float, float]
) -> "Figure":
    """Draw signal to noise of the outputs against the budget.

    Args:
        kind: Of the budget; its cost is bytes for "size", and else a share in [0, 1].
        points: Cost and predicted dB of other budgets, in any order.
        asked: Cost that was asked for.
        reached: Cost, and dB as they were measured, where compression ended.

    Raises:
        CodeqError: matplotlib is not installed.
        ValueError: There is no point.
    """
    if not points:
        raise ValueError("there is no point to draw")
    label, factor = _axis(kind, max(*(cost for cost, _ in points), asked, reached[0]))
    ordered = sorted(points)
    with figure_style():
        figure = new_figure(6.4, 4.2)
        axes = figure.add_subplot()
        positive = all(cost > 0 for cost in (*(cost for cost, _ in points), asked, reached[0]))
        if kind in ("bops", "size") and positive:
            axes.set_xscale("log")
        x, y = [factor * cost for cost, _ in ordered], [decibels for _, decibels in ordered]
        axes.plot(x, y, color=BLUE, marker="o", markersize=4, linewidth=1.2, label="predicted for other budgets")
        axes.axvline(factor * asked, color=GREY, linestyle="--", linewidth=1, label=f"asked for: {factor * asked:.3g}")
        axes.plot(
            factor * reached[0],
            reached[1],
            color=VERMILION,
            marker="D",
            markersize=7,
            linestyle="none",
            label=f"reached: {factor * reached[0]:.3g}, {reached[1]:.1f} dB measured",
            zorder=3,
        )
        axes.set_xlabel(label)
        axes.set_ylabel("signal to noise of the outputs (dB)")
        axes.grid(color="0.9", linewidth=0.6)
        axes.margins(0.08)
        if axes.get_xscale() == "log":
            tick_plainly(axes)
        axes.legend(loc="best", frameon=False)
        fix_layout(figure)
    return figure


def _axis(kind: CostOf, largest: float) -> tuple[str, float]:
    """The label of the cost axis with its unit, and what to multiply a cost by."""
    if kind in ("sparsity", "pointwise_sparsity"):
        return f"zeros (% of {'all weights' if kind == 'sparsity' else '1x1 convolutions'})", 100.0
    return cost_unit("relative_bops" if kind == "bops" else "entropy_bytes", largest)
