"""Tables stay within the terminal, from 80 to 100 columns, and cut no name and no number."""

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


def narrow(monkeypatch: pytest.MonkeyPatch, header: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    monkeypatch.setenv("COLUMNS", "80")
    lines = render_table(header, rows, ("total", *("" for _ in header[1:]))).splitlines()
    assert max(map(len, lines)) <= 80
    return lines


def test_headers_fold_first(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = narrow(
        monkeypatch, ("name", "peak memory of a process", "b " * 12, "c " * 12), [("a", "12.3 MB", "1", "2")]
    )
    assert lines[-3].split() == ["a", "12.3", "MB", "1", "2"]
    assert len(lines) > 5


def test_texts_fold_at_spaces_and_counts_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "its table has no integer kernel in onnxruntime, which computes it in float between codes"
    lines = narrow(monkeypatch, ("layer", "differ", "why"), [("conv1", "0 of 1.4 M", reason), ("fc", "float", "")])
    assert lines[2].startswith("conv1  0 of 1.4 M  its table has")
    assert lines[3].startswith("                   ")
    assert " ".join(" ".join(lines[2:4]).split()) == f"conv1 0 of 1.4 M {reason}"


def test_a_long_name_has_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "blocks.11.attention.projection.weight"
    row = ("1,234,567", "3072x768", "91.9%", "27.0kB", "3.2kB", "8.41")
    lines = narrow(monkeypatch, ("weight", *"abcdef"), [("0.weight", *row), (name, *row)])
    assert lines[2].split() == ["0.weight", *row]
    assert lines[3] == name
    assert lines[4].split() == list(row)
    assert lines[4].index("3072x768") == lines[2].index("3072x768")


def test_columns_that_do_not_fit_become_a_second_table(monkeypatch: pytest.MonkeyPatch) -> None:
    row = tuple(f"123,456,78{column}" for column in range(9))
    lines = narrow(monkeypatch, ("file", *map(str, range(9))), [("a.onnx", *row)])
    assert sum(line.startswith("a.onnx ") for line in lines) == 2
    assert [word for line in lines for word in line.split() if "," in word] == list(row)
    assert lines.count("") == 1


def test_a_name_longer_than_the_line_folds_and_a_path_in_a_text_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    name, path = "encoder." * 20 + "weight", "/a/folder" * 12
    lines = render_table(("weight", "why"), [(name, f"equal to {path}"), ("b", "1 of 2")]).splitlines()
    assert lines[2:5] == [name[:80], name[80:160], name[160:]]
    assert lines[5].strip() == "equal to"
    assert lines[6].strip() == path
    assert max(map(len, lines[:2])) <= 80


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
