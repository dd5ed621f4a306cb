"""What hides our packages is found before it is imported; Ctrl-C ends or raises, as is said. Processes: test_cli.py."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from codeq.toolkit import startup
from codeq.toolkit.startup import (
    ROOT,
    child_environment,
    describe_hiding,
    end_on_interrupt,
    hiding_files,
    raise_on_interrupt,
    start_command,
)


@pytest.fixture
def _default_handler() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_nothing_hides_our_packages_here() -> None:
    assert hiding_files() == {}


@pytest.mark.parametrize("name", ["models.py", "models/__init__.py", "models/net.py"])
def test_a_file_that_hides_a_package_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / name
    place.parent.mkdir(exist_ok=True)
    place.write_text("")
    monkeypatch.delitem(sys.modules, "models")
    # The folder alone: beside our own root, a folder without __init__.py hides nothing.
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(sys, "meta_path", [finder for finder in sys.meta_path if "editable" not in repr(finder)])
    assert hiding_files() == {"models": tmp_path / name if name == "models.py" else tmp_path / "models"}


def test_the_line_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    line = describe_hiding({"models": tmp_path / "models"})
    assert line == "models/ hides the package 'models' of this program; run the `codeq` command instead, or rename it"
    elsewhere = Path("/elsewhere/export.py")
    both = describe_hiding({"models": tmp_path / "models", "export": elsewhere})
    assert both.startswith("models/ hides the package 'models' of this program, and /elsewhere/export.py hides the ")
    assert both.endswith("or rename them")


def test_other_programs_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "hiding_files", lambda: pytest.fail("this is pytest, no command of ours"))
    start_command()


def test_a_child_finds_our_packages_in_any_folder(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("raise RuntimeError('theirs')")
    command = [sys.executable, "-m", "codeq.train", "--version"]
    done = subprocess.run(command, cwd=tmp_path, env=child_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert child_environment()["PYTHONPATH"].split(os.pathsep)[0] == str(ROOT)


@pytest.mark.usefixtures("_default_handler")
def test_ctrl_c_ends_the_process_until_it_raises_again() -> None:
    end_on_interrupt()
    assert signal.getsignal(signal.SIGINT) is startup._end
    raise_on_interrupt()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.usefixtures("_default_handler")
def test_an_ignored_ctrl_c_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_on_interrupt()
    raise_on_interrupt()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
