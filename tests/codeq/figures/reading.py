"""What stands in a figure, read back from matplotlib."""

from codeq.figures.style import figure_style

with figure_style():  # old releases warn of their own dependencies when they are imported
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_visible() and text.get_text()]


def front_of(axes: Axes) -> list[tuple[float, float]]:
    (line,) = [line for line in axes.lines if line.get_label() == "_front"]
    assert line.get_drawstyle() == "steps-post"  # level first, then up
    return list(zip(*line.get_data(), strict=True))


def assert_readable(figure: Figure) -> None:
    """Every text is whole within the picture and at least 8 points high."""
    figure.canvas.draw()
    for text in figure.findobj(Text):
        axes = text.axes
        if not text.get_visible() or not text.get_text() or (axes is not None and not axes.axison):
            continue
        if text in _unused_tick_labels(figure):
            continue
        extent = text.get_window_extent()
        where = f"{text.get_text()!r} at {extent}"
        assert text.get_fontsize() >= 8, where
        assert extent.x0 >= -1, where
        assert extent.y0 >= -1, where
        assert extent.x1 <= figure.bbox.x1 + 1, where
        assert extent.y1 <= figure.bbox.y1 + 1, where


def _unused_tick_labels(figure: Figure) -> set[Text]:
    """matplotlib keeps labels of ticks beyond the axes' limits, and does not draw them."""
    unused = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            unused |= {tick.label1 for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high}
    return unused
