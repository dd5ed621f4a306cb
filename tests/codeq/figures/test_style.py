"""How figures are made and written: the same bytes every time, whatever a user has set."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from codeq.errors import CodeqError, OutputError
from codeq.figures import draw_layers, draw_pareto, draw_progress, draw_weights, save_figure
from codeq.figures.style import figure_style, shorten
from codeq.run_log import Run
from tests.codeq.figures.reading import texts

with figure_style():  # old releases warn of their own dependencies when they are imported
    import matplotlib as mpl
    from matplotlib.figure import Figure

MakeRun = Callable[..., Run]


def test_a_long_name_keeps_both_ends() -> None:
    assert shorten("encoder.layers.0.weight", 11) == "encod…eight"
    assert shorten("encoder.layers.0.weight") == "encoder.layers.0.weight"
    assert len(shorten("encoder." * 20)) == 48


def test_names_are_no_mathematics(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_run(r"a$\frac{$", 0.9), make_run("b_{2}^$x$ 中文", 0.8)]
    figure = draw_pareto(runs, "relative_bops")
    assert r"a$\frac{$" in texts(figure)
    save_figure(figure, tmp_path / "pareto.png")
    save_figure(draw_layers(runs[0]), tmp_path / "layers.svg")


@pytest.mark.parametrize("suffix", [pytest.param(".png", marks=pytest.mark.full), ".svg"])
@pytest.mark.full
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
        "from pathlib import Path; from codeq.run_log import Run; "
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
    expected = r"^figures need matplotlib: pip install '.\[figures\]' in a clone of this project$"
    with pytest.raises(CodeqError, match=expected):
        draw_layers(make_run())
