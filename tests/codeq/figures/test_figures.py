"""What is in the figures, read back from matplotlib; nothing is cut off; files are the same every time."""

import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codeq.errors import CodeqError, OutputError
from codeq.figures import draw_layers, draw_pareto, draw_progress, draw_weights, save_figure
from codeq.figures.style import figure_style
from codeq.training.run_log import Run

with figure_style():  # old releases warn of their own dependencies when they are imported
    import matplotlib as mpl
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

MakeRun = Callable[..., Run]


@pytest.fixture
def make_run(epoch_record: Callable[..., dict[str, Any]], result_record: Callable[..., dict[str, Any]]) -> MakeRun:
    def make(name: str = "net", accuracy: float = 0.9, bops: float = 0.02, *, layers: int = 2, epochs: int = 3) -> Run:
        records = tuple(epoch_record(epoch, layers) for epoch in range(1, epochs + 1))
        return Run(name, Path(f"{name}.jsonl"), {}, records, result_record(accuracy, bops, bops * 1e6, layers))

    return make


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


def test_layers_by_hand(make_run: MakeRun) -> None:
    run = make_run(layers=3)
    figure = draw_layers(run)
    bits, zeros = figure.axes
    assert [label.get_text() for label in bits.get_yticklabels()] == [
        f"features.{index}.block.conv1.weight" for index in range(3)
    ]
    assert bits.yaxis_inverted()
    assert sorted(patch.get_width() for patch in bits.patches) == [4, 4, 8]  # 32 bits end at the axis
    assert [patch.get_width() for patch in zeros.patches] == [25, 25, 25]
    assert {"32, not quantized", "4", "25.0"} <= set(texts(figure))
    assert_readable(figure)
    unfinished = Run(run.name, run.path, {}, run.epochs, None)
    assert sorted(patch.get_width() for patch in draw_layers(unfinished).axes[0].patches) == [5, 6, 7]


def test_progress_by_hand(make_run: MakeRun) -> None:
    run = make_run(layers=2, epochs=3)
    run.epochs[1]["layers"][0]["sparsity"] = None
    figure = draw_progress(run)
    accuracy, zeros, bit_map, _, zero_map, _ = figure.axes
    assert accuracy.lines[0].get_xydata().tolist() == [[1, 50], [2, 75], [3, pytest.approx(100 - 50 / 3)]]
    assert zeros.lines[0].get_ydata().tolist() == [50, 50, 50]
    assert bit_map.collections[0].get_array().tolist() == [[3, 4, 5], [4, 5, 6]]
    assert zero_map.collections[0].get_array().tolist() == [[0, None, 0], [50, 50, 50]]
    assert bit_map.get_ylim() == (1.5, -0.5)
    assert bit_map.get_xlim() == (0.5, 3.5)
    assert_readable(figure)


def test_progress_of_part_of_the_epochs(make_run: MakeRun) -> None:
    run = make_run(epochs=9)
    later = Run(run.name, run.path, {}, (run.epochs[4], run.epochs[8]), None)
    figure = draw_progress(later)
    assert figure.axes[2].collections[0].get_coordinates()[0, :, 0].tolist() == [4.5, 7, 9.5]


@pytest.mark.parametrize("layers", [1, 53, 300])
def test_networks_of_any_depth_are_readable(make_run: MakeRun, layers: int) -> None:
    run = make_run("efficientnet-b0-mixed-precision-s1", layers=layers, epochs=30)
    for figure in (draw_layers(run), draw_progress(run)):
        assert figure.get_figheight() < 26
        assert_readable(figure)
        drawn = figure.axes[0 if len(figure.axes) == 2 else 2]
        boxes = [label.get_window_extent() for label in drawn.get_yticklabels()]
        # A label's box is taller than its letters by about 3 pixels.
        assert all(above.y0 >= below.y1 - 3 for above, below in pairwise(boxes))


def test_a_float_run_has_curves_alone(make_run: MakeRun, epoch_record: Callable[..., dict[str, Any]]) -> None:
    epochs = tuple(epoch_record(epoch, sparsity=0.0) | {"layers": []} for epoch in (1, 2))
    result = (make_run().result or {}) | {"weights": []}
    run = Run("float", Path("float.jsonl"), {}, epochs, result)
    figure = draw_progress(run)
    assert len(figure.axes) == 2
    assert figure.axes[1].get_ylim() == (0, 100)
    assert_readable(figure)
    with pytest.raises(CodeqError, match=r"^float.jsonl: has no weights of quantized layers"):
        draw_weights(run)


def test_weights_by_hand(make_run: MakeRun) -> None:
    figure = draw_weights(make_run(layers=3))
    first, second = figure.axes
    assert first.get_title() == "features.1.block.conv1.weight\n4 bits, 25.0% zeros"
    stairs, zone = first.patches[1], first.patches[0]
    values, edges, _ = stairs.get_data()
    assert values.tolist() == [0, 3, 1200, 1]
    assert edges.tolist() == [-1, -0.5, 0, 0.5, 1]
    assert zone.get_extents().transformed(first.transData.inverted()).intervalx == pytest.approx([-0.25, 0.25])
    assert list(first.lines[-1].get_xdata()) == [-0.75, 0.0, 0.75]
    assert [axis.get_xdata()[0] for axis in first.lines[:2]] == [-0.25, 0.25]
    assert second.get_title().startswith("features.2")
    assert_readable(figure)


@pytest.mark.parametrize(
    ("layers", "panels", "title"), [(25, 24, "net"), (53, 24, "net: 24 of 52 layers, 28 left out")]
)
def test_weights_of_many_layers(make_run: MakeRun, layers: int, panels: int, title: str) -> None:
    figure = draw_weights(make_run(layers=layers))
    assert len(figure.axes) == panels
    assert figure.get_suptitle() == title
    assert figure.axes[0].get_title().startswith("features.1.")
    assert figure.axes[-1].get_title().startswith(f"features.{layers - 1}.")
    assert_readable(figure)


def test_nothing_to_draw() -> None:
    run = Run("net", Path("net.jsonl"), {}, (), None)
    for draw in (draw_layers, draw_progress, draw_weights):
        with pytest.raises(CodeqError, match=r"^net.jsonl: .* nothing to draw$"):
            draw(run)


def test_names_are_no_mathematics(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_run(r"a$\frac{$", 0.9), make_run("b_{2}^$x$ 中文", 0.8)]
    figure = draw_pareto(runs, "relative_bops")
    assert r"a$\frac{$" in texts(figure)
    save_figure(figure, tmp_path / "pareto.png")
    save_figure(draw_layers(runs[0]), tmp_path / "layers.svg")


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_files_are_the_same_every_time(make_run: MakeRun, tmp_path: Path, suffix: str) -> None:
    drawings: dict[str, Callable[[], Figure]] = {
        "pareto": lambda: draw_pareto([make_run("a-s0"), make_run("a-s1", 0.8), make_run("b", 0.7)], "relative_bops"),
        "layers": lambda: draw_layers(make_run()),
        "progress": lambda: draw_progress(make_run()),
        "weights": lambda: draw_weights(make_run()),
    }
    for name, draw in drawings.items():
        first, second = tmp_path / f"{name}1{suffix}", tmp_path / f"{name}2{suffix}"
        figure = draw()
        save_figure(figure, first)
        save_figure(draw(), second)
        content = first.read_bytes()
        assert content == second.read_bytes()
        assert content.startswith(b"\x89PNG" if suffix == ".png" else b"<?xml")
        assert b"atplotlib v" not in content
        assert b"dc:date" not in content
        save_figure(figure, first, force=True)
        assert first.read_bytes() == content


def test_a_user_s_settings_change_nothing_and_stay(make_run: MakeRun, tmp_path: Path) -> None:
    save_figure(draw_layers(make_run()), tmp_path / "plain.svg")
    with mpl.rc_context({"font.size": 23, "axes.facecolor": "red", "svg.hashsalt": "mine"}):
        before = dict(mpl.rcParams)
        save_figure(draw_layers(make_run()), tmp_path / "theirs.svg")
        assert dict(mpl.rcParams) == before
    assert (tmp_path / "plain.svg").read_bytes() == (tmp_path / "theirs.svg").read_bytes()


def test_pyplot_is_left_alone() -> None:
    program = "import sys, codeq.figures as f; assert 'matplotlib' not in sys.modules; f.save_figure; "
    program += (
        "from pathlib import Path; from codeq.training.run_log import Run; "
        "e = {'epoch': 1, 'test_accuracy': .5, 'sparsity': .5, 'layers': []}; "
        "f.draw_progress(Run('a', Path('a'), {}, (e,), None)); print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "False\n", "")


def test_saving_refuses(make_run: MakeRun, tmp_path: Path) -> None:
    figure = draw_layers(make_run())
    with pytest.raises(OutputError, match=r"net.pdf: expected a name that ends in .png or .svg"):
        save_figure(figure, tmp_path / "net.pdf")
    (tmp_path / "net.png").write_text("mine")
    with pytest.raises(OutputError, match="exists; use --force"):
        save_figure(figure, tmp_path / "net.png")
    assert (tmp_path / "net.png").read_text() == "mine"
    save_figure(figure, tmp_path / "net.png", force=True)
    assert (tmp_path / "net.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch, make_run: MakeRun) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(
        CodeqError, match=r"^figures need matplotlib: pip install '.\[figures\]' in a clone of this project$"
    ):
        draw_layers(make_run())
