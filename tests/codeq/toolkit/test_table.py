"""Tables stay within the terminal, from 80 to 100 columns, and keep both ends of long names."""

import pytest

from codeq.toolkit.table import MAX_WIDTH, fold_line, format_bytes, render_table, report_width

pytestmark = pytest.mark.quick


def test_alignment_by_hand() -> None:
    table = render_table(("name", "bits"), [("a", "4"), ("bc", "32")], ("total", "36"))
    assert table.splitlines() == [
        "name   bits",
        "-----  ----",
        "a         4",
        "bc       32",
        "-----  ----",
        "total    36",
    ]


def test_long_names_give_way() -> None:
    table = render_table(("name", "shape"), [("encoder." * 20 + "weight", "3x3")])
    assert max(map(len, table.splitlines())) == MAX_WIDTH
    assert "encoder." in table
    assert "weight" in table
    assert "…" in table


def test_bytes() -> None:
    assert [format_bytes(size) for size in (0, 999, 1000, 31_240, 4.7e6, 2.1e9)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "31.2 kB",
        "4.7 MB",
        "2.1 GB",
    ]


@pytest.mark.parametrize(("columns", "width"), [("40", 80), ("80", 80), ("93", 93), ("200", 100)])
def test_reports_are_as_wide_as_the_terminal_within_bounds(
    columns: str, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert report_width() == width
    rows = [("layer." * 20, "reason " * 20, "12")]
    table = render_table(("name", "why", "bits"), rows)
    assert max(map(len, table.splitlines())) == width
    assert max(map(len, fold_line("operators  " + "CONV_2D " * 30, 11).splitlines())) <= width


def test_a_report_that_is_no_terminal_has_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr("os.get_terminal_size", lambda number: (_ for _ in ()).throw(OSError("no terminal")))
    assert report_width() == MAX_WIDTH


def test_a_folded_line_is_indented_and_keeps_long_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    path = "/folder" * 20
    assert fold_line(f"a short beginning, then {path}", 4).splitlines() == ["a short beginning, then", f"    {path}"]
