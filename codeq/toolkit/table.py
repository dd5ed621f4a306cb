"""This module writes plain text tables that fit the terminal and read the same there, in a log file and in a README."""

import re
import shutil
import textwrap
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

MIN_WIDTH = 80
MAX_WIDTH = 100
"""Columns of reports: those of the terminal within these bounds, the most where output is no terminal."""
TEXT_WIDTH = 24
"""Texts keep so many columns before long names are put on lines of their own."""
LONG_WORD = 40
INDEXED_NAME = re.compile(r"[\d.]*\.[A-Za-z_]")
INDEXED_NAME = re.compile(r"[\d.]*\.[A-Za-z_]")
WHOLE_WORDS: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}


def report_width() -> int:
    """Say how many columns a report may take; the variable COLUMNS overrules the terminal."""
    return min(max(shutil.get_terminal_size((MAX_WIDTH, 24)).columns, MIN_WIDTH), MAX_WIDTH)


def fold_line(line: str, indent: int) -> str:
    """Fold a line of a report at spaces to its width, with what follows indented; a long word, e.g. a path, stays."""
    return textwrap.fill(line, report_width(), subsequent_indent=" " * indent, **WHOLE_WORDS)


def render_table(header: Sequence[str], rows: Sequence[Sequence[str]], footer: Sequence[str] | None = None) -> str:
    """Align cells under a header: text to the left, numbers to the right. No name and no number is ever cut.

    Where the columns together are wider than a report may be, they give way in this order:

    1. Headers fold at spaces.
    2. Texts behind the first column fold at spaces; a cell that begins with a digit does not.
    3. A name in the first column that is too long stands on a line of its own, and the rest of its row below it.
    4. The last columns become a table of their own below, with the names again.

    Args:
        header: Column names.
        rows: Cells as text, each row as long as `header`.
        footer: One more row below a rule, e.g. totals.

    Returns:
        Lines joined by newlines, without trailing spaces, of at most `report_width()` columns. A name that is longer
        than that takes several lines; a word of that length in a text, e.g. a path, stays whole.
    """
    table = [tuple(header), *map(tuple, rows)] + ([tuple(footer)] if footer else [])
    count = _fitting_columns(table)
    if count < len(header):
        parts = (list(range(count)), [0, *range(count, len(header))])
        return "\n\n".join(
            render_table(
                [header[index] for index in part],
                [[row[index] for index in part] for row in rows],
                [footer[index] for index in part] if footer else None,
            )
            for part in parts
        )
    widths = _fit(table)
    right = [all(_is_number(row[column]) for row in rows) and bool(rows) for column in range(len(header))]

    heads = [textwrap.wrap(cell, width, **WHOLE_WORDS) for cell, width in zip(header, widths, strict=True)]
    height = max(map(len, heads))
    lines = [
        _align([head[number - height] if number >= height - len(head) else "" for head in heads], widths, right)
        for number in range(height)
    ]
    rule = "  ".join("-" * width for width in widths)
    lines += [rule, *(line for row in rows for line in _row_lines(row, widths, right))]
    return "\n".join([*lines, rule, *_row_lines(footer, widths, right)] if footer else lines)


def _row_lines(row: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> list[str]:
    """Write a row: a long name first, alone; then its cells, with folded texts on further lines."""
    lines = []
    if len(row[0]) > widths[0]:
        lines += textwrap.wrap(row[0], report_width())
        row = ("", *row[1:])
    cells = [
        [cell] if len(cell) <= width or _is_number(cell) else textwrap.wrap(cell, width, **WHOLE_WORDS)
        for cell, width in zip(row, widths, strict=True)
    ]
    return lines + [_align(parts, widths, right) for parts in zip_longest(*cells, fillvalue="")]


def _align(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = (
        cell.rjust(width) if is_right else cell.ljust(width)
        for cell, width, is_right in zip(cells, widths, right, strict=True)
    )
    return "  ".join(padded).rstrip()


def _fitting_columns(table: Sequence[Sequence[str]]) -> int:
    """Count the first columns that fit side by side; never fewer than two."""
    count = len(table[0])
    while count > 2 and _total(_fit([row[:count] for row in table])) > report_width():
        count -= 1
    return count


def _fit(table: Sequence[Sequence[str]]) -> list[int]:
    """Find the widths of columns: rules 1 to 3 of `render_table`, each as far as it is needed."""
    columns = list(zip(*table, strict=True))
    heads = [max(map(len, column[0].split()), default=0) for column in columns]
    cells = [max(map(len, column[1:]), default=0) for column in columns]
    words = [max((_longest_word(cell) for cell in column[1:]), default=0) for column in columns]
    narrowest = [max(head, min(word, cell)) for head, word, cell in zip(heads, words, cells, strict=True)]
    narrowest[0] = max(heads[0], cells[0])
    widest = [max(len(column[0]), cell) for column, cell in zip(columns, cells, strict=True)]
    folded = [max(head, cell) for head, cell in zip(heads, cells, strict=True)]
    readable = [max(least, min(cell, TEXT_WIDTH)) for least, cell in zip(narrowest, cells, strict=True)]
    widths = _shrink(widest, folded, readable)
    spare = report_width() - _total(widths) + widths[0]
    if widths[0] > spare and not all(map(_is_number, columns[0][1:])):
        names = max([heads[0], *(len(name) for name in columns[0][1:] if len(name) <= spare)])
        widest[0] = folded[0] = narrowest[0] = names
    return _shrink(widest, folded, narrowest)


def _shrink(widest: Sequence[int], *floors: Sequence[int]) -> list[int]:
    """Make columns narrower until they fit: the widest first, all down to the first floors before any goes further."""
    widths = list(widest)
    for least in floors:
        able = [column for column, width in enumerate(widths) if width > least[column]]
        while able and _total(widths) > report_width():
            widths[max(able, key=lambda column: widths[column])] -= 1
            able = [column for column in able if widths[column] > least[column]]
    return widths


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + 2 * (len(widths) - 1)


def _longest_word(cell: str) -> int:
    """Measure what of a cell stays together, up to LONG_WORD: a path beyond that overhangs its column."""
    return len(cell) if _is_number(cell) else min(LONG_WORD, max(map(len, cell.split()), default=0))


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


def _is_number(cell: str) -> bool:
    """Say whether a cell is a number, a size or a count, e.g. "3x3" or "0 of 2.6 M"; `0.weight` is a name."""
    return (cell == "" or cell[0].isdigit() or cell[0] in "-+") and not INDEXED_NAME.match(cell)
