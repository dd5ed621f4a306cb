"""Accuracy against cost: points, front and names, read back from matplotlib."""

from collections.abc import Callable

import numpy as np
import pytest

from codeq.figures import draw_pareto
from codeq.figures.style import figure_style
from codeq.run_log import Run
from tests.codeq.figures.reading import assert_readable, front_of, texts

with figure_style():  # old releases warn of their own dependencies when they are imported
    from matplotlib.text import Text

MakeRun = Callable[..., Run]


def test_pareto_by_hand(make_run: MakeRun) -> None:
    runs = [
        make_run("a-s0", 0.90, 0.010),
        make_run("a-s1", 0.94, 0.030),
        make_run("b", 0.95, 0.1),
        make_run("c", 0.80, 0.05),
    ]
    figure = draw_pareto(runs, "relative_bops")
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel() == "relative BOPs (% of dense 32 x 32 bits)"
    assert axes.get_ylabel() == "test accuracy (%)"
    centres = {bar.get_label(): bar.lines[0].get_data() for bar in axes.containers}
    assert {name: (x[0], y[0]) for name, (x, y) in centres.items()} == {
        "a": pytest.approx((2, 92)),
        "b": pytest.approx((10, 95)),
        "c": pytest.approx((5, 80)),
    }
    deviations = {bar.get_label(): bar for bar in axes.containers}
    assert (deviations["a"].has_xerr, deviations["a"].has_yerr) == (True, True)
    assert not deviations["b"].has_yerr
    _, _, (_, vertical) = deviations["a"].lines
    (segment,) = vertical.get_segments()
    assert segment[:, 1] == pytest.approx([92 - 2 * 2**0.5, 92 + 2 * 2**0.5])  # sample deviation of 90 and 94
    low, right = axes.get_ylim()[0], axes.get_xlim()[1]
    assert front_of(axes) == [pytest.approx(point) for point in ((2, low), (2, 92), (10, 95), (right, 95))]
    assert {"a", "b", "c"} <= set(texts(figure))
    assert not figure.legends
    assert_readable(figure)


def test_bytes_have_the_unit_that_fits(make_run: MakeRun) -> None:
    for bops, label in ((2e-4, "bytes"), (0.02, "kB"), (5.0, "MB")):
        axes = draw_pareto([make_run(bops=bops)], "entropy_bytes").axes[0]
        assert axes.get_xlabel() == f"entropy bound of the codes ({label})"
        assert axes.containers[0].lines[0].get_xdata()[0] == pytest.approx({"bytes": 200, "kB": 20, "MB": 5}[label])


@pytest.mark.parametrize(("groups", "legend"), [(12, False), (13, True), (40, True)])
def test_many_groups_get_a_legend(make_run: MakeRun, groups: int, legend: bool) -> None:
    runs = [make_run(f"mobilenetv2-mixed-lambda-dz{index:02d}", 0.9 - 0.001 * index, 0.1) for index in range(groups)]
    figure = draw_pareto(runs, "relative_bops")
    assert bool(figure.legends) == legend
    assert {run.name for run in runs} <= set(texts(figure))
    styles = {(bar.lines[0].get_marker(), bar.lines[0].get_color()) for axes in figure.axes for bar in axes.containers}
    assert len(styles) == groups
    assert_readable(figure)


def test_names_do_not_cover_each_other(make_run: MakeRun) -> None:
    rng = np.random.default_rng(0)
    runs = [make_run(f"resnet20-lambda{n}", 0.9 + 0.01 * rng.random(), 0.01 + 0.002 * rng.random()) for n in range(12)]
    figure = draw_pareto(runs, "relative_bops")
    figure.canvas.draw()
    labels = [Text.get_window_extent(text) for text in figure.axes[0].texts]
    assert len(labels) == 12
    for index, one in enumerate(labels):
        for other in labels[:index]:
            overlap_x = min(one.x1, other.x1) - max(one.x0, other.x0)
            overlap_y = min(one.y1, other.y1) - max(one.y0, other.y0)
            # A label's box is taller than its letters by about 3 pixels.
            assert min(overlap_x, overlap_y) <= 3


def test_points_without_cost_are_named(make_run: MakeRun) -> None:
    figure = draw_pareto([make_run("empty", 0.99, 0.0), make_run("net", 0.9, 0.02)], "relative_bops")
    assert figure.axes[0].get_xlabel().endswith("at cost 0, not shown: empty")
    assert [bar.get_label() for bar in figure.axes[0].containers] == ["net"]
    assert_readable(draw_pareto([make_run("empty", 0.99, 0.0)], "entropy_bytes"))


def test_pareto_refuses() -> None:
    with pytest.raises(ValueError, match="cost must be one of relative_bops, entropy_bytes, found 'bops'"):
        draw_pareto([], "bops")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no run"):
        draw_pareto([], "relative_bops")
