"""Help and reports fit a terminal of 80 columns, with every name and every number in full."""

import re
from importlib import import_module

import pytest

from tests.reports import REPORTS
from tests.test_architecture import COMMANDS

WIDTH = 80


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH))


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "codeq_cli"])
def test_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        import_module(name).main(["--help"])
    text = capsys.readouterr().out
    assert caught.value.code == 0
    assert max(map(len, text.splitlines())) <= WIDTH
    # Defaults are what a user would type: no tuples, lists, None or objects.
    defaults = re.findall(r"\(default: ([^)]*\)?)", " ".join(text.split()))
    assert not [default for default in defaults if re.match(r"[(\[{<'\"]|None|True|False", default)]


def test_help_of_the_console_command(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["export"]):
        assert import_module("codeq_cli").main([*words, "--help"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= WIDTH


@pytest.mark.parametrize("name", REPORTS)
def test_report(name: str) -> None:
    build, expected = REPORTS[name]
    text = str(build())
    long = [line for line in text.splitlines() if len(line) > WIDTH]
    assert not long
    assert "…" not in text
    missing = [word for word in expected if word not in text and word not in " ".join(text.split())]
    assert not missing, text
