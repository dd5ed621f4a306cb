"""Draw one training run: its layers, its progress, its weights."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from codeq.errors import CodeqError
from codeq.figures.style import (
    AMBER,
    BLUE,
    VERMILION,
    figure_style,
    fix_layout,
    new_figure,
    number,
    numbers,
    shorten,
)
from codeq.run_log import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_PANELS = 24
PANEL_COLUMNS = 4
ROW_INCHES = 0.17
MAX_ROWS_INCHES = 20.0
"""A network of more layers than fit gets thinner rows, not all of them named."""
QUANTIZED_BITS = 8
"""The most bits of a quantized weight; one of more is float."""


def draw_layers(run: Run) -> "Figure":
    """Draw bits and zeros of every layer, side by side in the network's order.

    A run under way is drawn as of its last epoch.

    Raises:
        CodeqError: matplotlib is not installed, or the log has nothing about layers yet.
    """
    layers = _final_layers(run)
    if not layers:
        raise CodeqError(f"{run.path}: says nothing about layers yet, there is nothing to draw")
    names = [name for name, _, _ in layers]
    with figure_style():
        figure = new_figure(7.6, 1.0 + _rows_inches(names))
        figure.suptitle(shorten(run.name, 90), fontsize=10)
        left, right = figure.subplots(1, 2, sharey=True)
        places = np.arange(len(layers), dtype=float)
        bits, zeros = numbers(bits for _, bits, _ in layers), 100 * numbers(zeros for _, _, zeros in layers)
        unquantized = bits > QUANTIZED_BITS
        drawn = np.minimum(bits, QUANTIZED_BITS)
        left.barh(places[~unquantized], drawn[~unquantized], color=BLUE, height=0.75)
        left.barh(places[unquantized], drawn[unquantized], color="0.85", height=0.75)
        right.barh(places, zeros, color=VERMILION, height=0.75)
        thin = _label_every(names) > 1
        for place, value, zero in zip(places, bits, zeros, strict=True):
            if thin:
                break
            if math.isfinite(value):
                text = f"{value:g}, not quantized" if value > QUANTIZED_BITS else f"{value:.3g}"
                _write_behind(left, min(value, QUANTIZED_BITS), place, text, inside=value > QUANTIZED_BITS)
            if math.isfinite(zero):
                _write_behind(right, zero, place, f"{zero:.1f}")
        left.set(xlim=(0, QUANTIZED_BITS * 1.08), xlabel="bits per weight", xticks=range(0, QUANTIZED_BITS + 1, 2))
        right.set(xlim=(0, 116), xlabel="zeros (% of the weights)", xticks=range(0, 101, 25))
        for axes in (left, right):
            axes.grid(axis="x", color="0.9", linewidth=0.6)
            axes.tick_params(axis="y", length=0)
        _name_rows(left, names)
        fix_layout(figure)
    return figure


def draw_progress(run: Run) -> "Figure":
    """Draw accuracy and zeros of a network over the epochs, and below them bits and zeros of every layer as heat maps.

    Raises:
        CodeqError: matplotlib is not installed, or the log has no epoch yet.
    """
    if not run.epochs:
        raise CodeqError(f"{run.path}: has no epoch yet, there is nothing to draw")
    names = list(dict.fromkeys(layer["name"] for epoch in run.epochs for layer in epoch["layers"]))
    counted = np.array([float(epoch["epoch"]) for epoch in run.epochs])
    edges = _edges_between(counted)
    with figure_style():
        from matplotlib.ticker import MaxNLocator

        heights = [1.5, _rows_inches(names), 0.1] if names else [2.4]
        figure = new_figure(8.2, sum(heights) + (1.6 if names else 0.9))
        figure.suptitle(shorten(run.name, 90), fontsize=10)
        grid = figure.add_gridspec(len(heights), 2, height_ratios=heights)
        left, right = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[0, 1])
        curves = (
            (left, "test_accuracy", "test accuracy (%)", BLUE),
            (right, "sparsity", "zeros, all layers (%)", VERMILION),
        )
        for axes, field, label, colour in curves:
            values = 100 * numbers(epoch[field] for epoch in run.epochs)
            axes.plot(counted, values, color=colour, marker="o" if len(values) <= 40 else "", markersize=3)
            axes.set_ylabel(label)
            if not values.any():
                axes.set_ylim(0, 100)  # of a float run's zeros
            axes.grid(color="0.9", linewidth=0.6)
        if names:
            by_name = [{layer["name"]: layer for layer in epoch["layers"]} for epoch in run.epochs]
            for column, field in enumerate(("bits", "sparsity")):
                axes = figure.add_subplot(grid[1, column], sharex=(left, right)[column])
                colours = figure.add_subplot(grid[2, column])
                _draw_heat_map(axes, colours, edges, names, by_name, field)
                if column == 0:
                    _name_rows(axes, names)
                axes.tick_params(axis="y", length=0, labelleft=column == 0)
        for axes in (left, right):
            axes.set_xlim(edges[0], edges[-1])
            axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
            axes.tick_params(labelbottom=not names)
            if not names:
                axes.set_xlabel("epoch")
        fix_layout(figure)
    return figure


def draw_weights(run: Run) -> "Figure":
    """Draw a histogram of each layer's float weights, with the dead zone shaded and the levels as ticks below.

    At most MAX_PANELS layers, spread evenly over the network; the title says how many are left out.

    Raises:
        CodeqError: matplotlib is not installed, or the log has no weights: the run has not finished, or is
            a float one.
    """
    weights = run.result["weights"] if run.result else []
    if not weights:
        raise CodeqError(f"{run.path}: has no weights of quantized layers, there is nothing to draw")
    chosen = np.unique(np.linspace(0, len(weights) - 1, min(MAX_PANELS, len(weights))).round().astype(int))
    details = {
        name: f"{bits:g} bits, {zeros:.1%} zeros" for name, bits, zeros in _final_layers(run) if zeros is not None
    }
    columns = min(PANEL_COLUMNS, len(chosen))
    rows = math.ceil(len(chosen) / columns)
    with figure_style():
        figure = new_figure(max(2.35 * columns, 4.0), 1.6 * rows + 0.8)
        left_out = len(weights) - len(chosen)
        title = shorten(run.name, 60) + (f": {len(chosen)} of {len(weights)} layers" if left_out else "")
        figure.suptitle(title + (f", {left_out} left out" if left_out else ""), fontsize=10)
        panels = figure.subplots(rows, columns, squeeze=False).flatten()
        for index, axes in enumerate(panels):
            if index >= len(chosen):
                axes.remove()
                continue
            weight = weights[chosen[index]]
            _draw_histogram(axes, weight)
            axes.set_title(f"{shorten(weight['name'], 32)}\n{details.get(weight['name'], '')}", fontsize=8)
        figure.supxlabel("weight (dead zone shaded, levels as ticks)", fontsize=9)
        figure.supylabel("weights per bin (logarithmic)", fontsize=9)
        fix_layout(figure)
    return figure


def _final_layers(run: Run) -> list[tuple[str, float, float | None]]:
    """Name, bits and share of zeros of every layer: of the result, else of the last epoch."""
    if run.result is not None:
        layers = run.result["cost"]["layers"]
        return [(layer["name"], number(layer["weight_bits"]), layer["sparsity"]) for layer in layers]
    layers = run.epochs[-1]["layers"] if run.epochs else []
    return [(layer["name"], number(layer["bits"]), layer["sparsity"]) for layer in layers]


def _rows_inches(names: Sequence[str]) -> float:
    return min(ROW_INCHES * max(len(names), 3), MAX_ROWS_INCHES)


def _label_every(names: Sequence[str]) -> int:
    """Say how many rows share the room of one name: 1 where every row has its own."""
    return math.ceil(ROW_INCHES * len(names) / MAX_ROWS_INCHES)


def _name_rows(axes: "Axes", names: Sequence[str]) -> None:
    """Name the rows after layers, from top to bottom in the network's order."""
    shown = range(0, len(names), _label_every(names))
    axes.set_yticks(list(shown), [shorten(names[row]) for row in shown])
    axes.set_ylim(len(names) - 0.5, -0.5)


def _write_behind(axes: "Axes", value: float, place: float, text: str, *, inside: bool = False) -> None:
    """Write a bar's number at its end."""
    offset, side = (-3, "right") if inside else (3, "left")
    axes.annotate(
        text, (value, place), (offset, 0), textcoords="offset points", ha=side, va="center_baseline", fontsize=8
    )


def _edges_between(epochs: np.ndarray) -> np.ndarray:
    """Place the borders of a heat map's columns half way between neighbouring epochs."""
    middle = (epochs[1:] + epochs[:-1]) / 2
    return np.concatenate([[epochs[0] - 0.5], middle, [epochs[-1] + 0.5]])


def _draw_heat_map(
    axes: "Axes",
    colour_axes: "Axes",
    edges: np.ndarray,
    names: Sequence[str],
    by_name: Sequence[Mapping[str, Mapping[str, Any]]],
    field: str,
) -> None:
    """Draw one field of every layer (from top to bottom) in every epoch, and its colours in axes of their own."""
    import matplotlib as mpl
    from matplotlib.colors import BoundaryNorm, Normalize

    values = np.array([numbers(layers.get(name, {}).get(field) for layers in by_name) for name in names])
    if field == "bits":
        colours = mpl.colormaps["cividis"].resampled(7)
        norm: Normalize = BoundaryNorm(np.arange(1.5, 9.0), 7)
        label, ticks = "bits per weight", list(range(2, 9))
    else:
        values, colours, norm = 100 * values, mpl.colormaps["viridis"], Normalize(0, 100)
        label, ticks = "zeros (% of the weights)", list(range(0, 101, 25))
    borders = np.arange(len(names) + 1) - 0.5
    image = axes.pcolormesh(edges, borders, np.ma.masked_invalid(values), cmap=colours, norm=norm)
    if _label_every(names) == 1:
        axes.hlines(borders, edges[0], edges[-1], color="white", linewidth=0.5)
    axes.set_yticks([])
    axes.set_ylim(borders[-1], borders[0])
    axes.set_facecolor("0.8")  # grey: no number
    axes.set_xlabel("epoch")
    assert axes.figure is not None
    bar = axes.figure.colorbar(image, cax=colour_axes, orientation="horizontal", label=label, ticks=ticks)
    bar.minorticks_off()


def _draw_histogram(axes: "Axes", weight: Mapping[str, Any]) -> None:
    counts = np.array(weight["counts"] or [0], dtype=float)
    edges = np.linspace(weight["edges"][0], weight["edges"][1], len(counts) + 1)
    half = weight["dead_zone"] / 2
    axes.axvspan(-half, half, color=AMBER, alpha=0.35, linewidth=0)
    axes.stairs(counts, edges, fill=True, color=BLUE)
    for border in (-half, half):
        axes.axvline(border, color="0.15", linewidth=0.8, linestyle=(0, (3, 2)))
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(0, max(counts.max(), 1) * 1.5)
    axes.set_yticks([10**power for power in range(int(math.log10(max(counts.max(), 1))) + 1)], minor=False)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.minorticks_off()
    reach = 1.05 * max(abs(value) for value in (*weight["edges"], *weight["levels"], half))
    axes.set_xlim(-reach, reach)
    axes.locator_params(axis="x", nbins=5)
    axes.plot(
        weight["levels"],
        [0] * len(weight["levels"]),
        linestyle="none",
        marker="|",
        markersize=6,
        markeredgewidth=0.9 if len(weight["levels"]) < 40 else 0.4,
        color=VERMILION,
        clip_on=False,
        transform=axes.get_xaxis_transform(),
        zorder=4,
    )
