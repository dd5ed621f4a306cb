"""Tables stay within 100 columns and keep both ends of long names."""

import pytest

from codeq.toolkit.table import MAX_WIDTH, format_bytes, render_table

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
