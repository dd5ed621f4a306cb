"""Layers, progress and weights of a run, read back from matplotlib; nothing is cut off."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from codeq.errors import CodeqError
from codeq.figures import draw_layers, draw_progress, draw_weights
from codeq.figures.style import figure_style
from codeq.run_log import Run
from tests.codeq.figures.reading import assert_readable, texts

with figure_style():  # old releases warn of their own dependencies when they are imported
    pass

MakeRun = Callable[..., Run]


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


@pytest.mark.parametrize("layers", [1, 53, pytest.param(300, marks=pytest.mark.full)])
@pytest.mark.full
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
    ("layers", "panels", "title"),
    [
        pytest.param(25, 24, "net", marks=pytest.mark.full),
        pytest.param(
            53, 24, "net: 24 of 52 layers, 28 left out", marks=pytest.mark.slow("matplotlib draws two dozen panels")
        ),
    ],
)
@pytest.mark.full
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
