"""The frontier of a budget, read back from matplotlib."""

import pytest

from codeq.figures import draw_frontier
from tests.codeq.figures.reading import assert_readable, texts


@pytest.mark.parametrize(
    ("kind", "points", "asked", "reached", "label", "scale", "shown"),
    [
        ("sparsity", [(0.9, 8.0), (0.2, 30.0)], 0.5, (0.504, 19.5), "zeros (% of all weights)", "linear", [20, 90]),
        (
            "bops",
            [(0.08, 30.0), (0.01, 8.0)],
            0.02,
            (0.0201, 12.5),
            "relative BOPs (% of dense 32 x 32 bits)",
            "log",
            [1, 8],
        ),
        ("size", [(9e4, 30.0), (2e4, 8.0)], 5e4, (4.9e4, 21.0), "entropy bound of the codes (kB)", "log", [20, 90]),
    ],
    ids=["sparsity", "bops", "size"],
)
def test_frontier_by_hand(
    kind: str,
    points: list[tuple[float, float]],
    asked: float,
    reached: tuple[float, float],
    label: str,
    scale: str,
    shown: list[float],
) -> None:
    figure = draw_frontier(kind, points, asked=asked, reached=reached)  # type: ignore[arg-type]
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_xscale()) == (label, scale)
    assert axes.get_ylabel() == "signal to noise of the outputs (dB)"
    frontier, line, marker = axes.lines
    factor = shown[-1] / max(points)[0]
    assert list(frontier.get_xdata()) == pytest.approx(shown)
    assert list(frontier.get_ydata()) == [decibels for _, decibels in sorted(points)]
    assert list(line.get_xdata()) == pytest.approx([factor * asked] * 2)
    assert [*marker.get_xdata(), *marker.get_ydata()] == pytest.approx([factor * reached[0], reached[1]])
    assert f"reached: {factor * reached[0]:.3g}, {reached[1]:.1f} dB measured" in texts(figure)
    assert_readable(figure)


def test_a_cost_of_nothing_has_a_place_on_a_linear_axis() -> None:
    figure = draw_frontier("bops", [(0.0, 1.0), (0.1, 20.0)], asked=0.05, reached=(0.05, 12.0))
    assert figure.axes[0].get_xscale() == "linear"
    assert_readable(figure)


def test_a_frontier_without_points_is_refused() -> None:
    with pytest.raises(ValueError, match="no point"):
        draw_frontier("size", [], asked=1.0, reached=(1.0, 1.0))
