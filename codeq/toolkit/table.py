"""Plain text tables that fit the terminal and read the same there, in a log file and in a README."""

import shutil
import textwrap
from collections.abc import Sequence

MIN_WIDTH = 80
MAX_WIDTH = 100
"""Columns of reports: those of the terminal within these bounds, the most where output is no terminal."""
LEAST_CELL = 8


def report_width() -> int:
    """Say how many columns a report may take; the variable COLUMNS overrules the terminal."""
    return min(max(shutil.get_terminal_size((MAX_WIDTH, 24)).columns, MIN_WIDTH), MAX_WIDTH)


def fold_line(line: str, indent: int) -> str:
    """Fold a line of a report at spaces to its width, with what follows indented; a long word, e.g. a path, stays."""
    return textwrap.fill(
        line, report_width(), subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )


def render_table(header: Sequence[str], rows: Sequence[Sequence[str]], footer: Sequence[str] | None = None) -> str:
    """Align cells under a header: text to the left, numbers to the right; the widest column gives way.

    Args:
        header: Column names.
        rows: Cells as text, each row as long as `header`.
        footer: One more row below a rule, e.g. totals.

    Returns:
        Lines joined by newlines, without trailing spaces, of at most `report_width()` columns.
    """
    table = [tuple(header), *map(tuple, rows)] + ([tuple(footer)] if footer else [])
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    excess = sum(widths) + 2 * (len(widths) - 1) - report_width()
    while excess > 0 and max(widths) > LEAST_CELL:
        widest = widths.index(max(widths))
        given = min(excess, widths[widest] - LEAST_CELL)
        widths[widest] -= given
        excess -= given
    right = [all(_is_number(row[column]) for row in rows) and bool(rows) for column in range(len(header))]

    def line(row: Sequence[str]) -> str:
        cells = (
            fit_cell(cell, width).rjust(width) if aligned else fit_cell(cell, width).ljust(width)
            for cell, width, aligned in zip(row, widths, right, strict=True)
        )
        return "  ".join(cells).rstrip()

    rule = "  ".join("-" * width for width in widths)
    lines = [line(header), rule, *map(line, rows)]
    return "\n".join([*lines, rule, line(footer)] if footer else lines)


def format_bytes(size: float) -> str:
    """Write bytes in powers of 1000, as file listings of storage vendors and `du --si` do: 315 B, 31.2 kB, 4.7 MB."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def format_ratio(size: float, bound: float) -> str:
    """Say how far above its bound a size is, e.g. "1.04"; a dash where the bound is nothing."""
    return f"{size / bound:.2f}" if bound >= 1 else "-"


def format_count(count: int, noun: str) -> str:
    """Write a number of things, e.g. "1 tensor", "2 tensors"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def fit_cell(cell: str, width: int) -> str:
    """Shorten a cell in the middle: both ends of a layer's name matter."""
    if len(cell) <= width:
        return cell
    head = (width - 1) // 2
    return f"{cell[:head]}…{cell[len(cell) - (width - 1 - head) :]}"


def _is_number(cell: str) -> bool:
    return cell[:1].isdigit() or cell[:1] in ("-", "+") or cell == ""
