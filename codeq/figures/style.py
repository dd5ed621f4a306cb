"""Make and write figures apart from pyplot, from a user's settings, and from the date.

Figures are made without pyplot and under a style of their own, so neither a user's settings nor the order of calls
changes them, and nothing of the caller's plots is touched. Colours are Okabe and Ito's ("Color universal design",
2008), told apart with every kind of colour vision. Needs matplotlib, the extra `figures`.
"""

import logging
import math
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from codeq.errors import CodeqError, OutputError
from codeq.toolkit.extras import install_hint
from codeq.toolkit.files import check_writable, replace_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg")
DOTS_PER_INCH = 150
STYLE: dict[Any, Any] = {
    "figure.dpi": DOTS_PER_INCH,
    "savefig.dpi": DOTS_PER_INCH,
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "text.parse_math": False,  # a dollar in a name is a dollar
    "svg.hashsalt": "codeq",  # ids in the file would be random
}
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
BLUE, VERMILION, AMBER, GREY = COLOURS[0], COLOURS[1], COLOURS[4], "#767676"
MAX_NAME = 48
"""Longer names are shortened in the middle."""


def shorten(name: str, width: int = MAX_NAME) -> str:
    """Shorten a name in the middle: both ends of a layer's name matter."""
    if len(name) <= width:
        return name
    head = (width - 1) // 2
    return f"{name[:head]}…{name[len(name) - (width - 1 - head) :]}"


@contextmanager
def figure_style() -> Iterator[None]:
    """Set matplotlib's own defaults with STYLE on top, whatever its user has set; its warnings stay off the screen.

    Raises:
        CodeqError: matplotlib is not installed.
    """
    logger = logging.getLogger("matplotlib")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)  # "building the font cache", fonts without a glyph
        try:
            try:
                import matplotlib as mpl
            except ImportError as error:
                raise CodeqError(f"figures need matplotlib: {install_hint('figures')}") from error
            with mpl.rc_context():
                mpl.rcdefaults()
                mpl.rcParams.update(STYLE)
                yield
        finally:
            logger.setLevel(level)


def new_figure(width: float, height: float) -> "Figure":
    """Make an empty figure of a size in inches, whose parts make room for each other; within `figure_style` alone."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def fix_layout(figure: "Figure") -> None:
    """Let the parts make room for each other now, once: each later time would move them a little further."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def save_figure(figure: "Figure", path: str | os.PathLike[str], force: bool = False) -> None:
    """Write a figure, whole or not at all; the same figure gives the same bytes.

    Args:
        figure: Any matplotlib figure.
        path: Ends in .png (150 dots per inch) or .svg.
        force: Overwrite.

    Raises:
        OutputError: Another suffix, the file exists, or it cannot be written.
    """
    target = check_figure(path, force=force)
    suffix = target.suffix.lower()
    # Neither the date nor the release that drew it: they would change the bytes, and say nothing about the run.
    metadata: dict[str, Any] = {"Date": None, "Creator": None} if suffix == ".svg" else {"Software": None}
    with figure_style(), replace_atomically(target) as temporary:
        figure.savefig(temporary, format=suffix[1:], metadata=metadata)


def check_figure(path: str | os.PathLike[str], *, force: bool) -> Path:
    """Say before the work starts whether its figure can be drawn and written.

    Raises:
        OutputError: As for `save_figure`.
        CodeqError: matplotlib is not installed.
    """
    target = Path(path)
    if target.suffix.lower() not in SUFFIXES:
        raise OutputError(f"{target}: expected a name that ends in {' or '.join(SUFFIXES)}")
    with figure_style():
        return check_writable(target, force=force)


def number(value: float | None) -> float:
    """Turn a missing number into NaN, where matplotlib leaves a gap."""
    return math.nan if value is None else float(value)


def numbers(values: Iterable[float | None]) -> np.ndarray:
    """Collect numbers as float64 `(N,)`, NaN where one is missing."""
    return np.array([number(value) for value in values])
