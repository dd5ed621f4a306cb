"""Modules of the user's that have names of ours are theirs while they are imported, and ours everywhere else."""

import sys
from importlib import import_module
from pathlib import Path

import pytest

import models
from codeq.toolkit.user_modules import user_modules


@pytest.mark.parametrize("initialised", [True, False], ids=["with __init__", "without"])
def test_theirs_inside_and_ours_outside(initialised: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "net.py").write_text("from models.layers import WIDTH\n")
    (tmp_path / "models" / "layers.py").write_text("WIDTH = 7\n")
    if initialised:
        (tmp_path / "models" / "__init__.py").write_text("OURS = False\n")
    path, loaded = list(sys.path), set(sys.modules)
    with user_modules():
        theirs = import_module("models.net")
        assert theirs.WIDTH == 7
        assert import_module("codeq.toolkit.cli") is sys.modules["codeq.toolkit.cli"]
    assert sys.modules["models"] is models
    assert "models.net" not in sys.modules
    assert (sys.path, set(sys.modules)) == (path, loaded)
    with user_modules():
        assert import_module("models.net") is theirs  # imported once


def test_what_fails_leaves_ours_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models.py").write_text("raise RuntimeError('mine')\n")
    with pytest.raises(RuntimeError, match="mine"), user_modules():
        import_module("models")
    assert import_module("models") is models


def test_other_names_come_from_the_folder_and_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "their_net_of_another_name.py").write_text("WIDTH = 8\n")
    with user_modules():
        assert import_module("models") is models
        assert import_module("their_net_of_another_name").WIDTH == 8
    assert sys.modules.pop("their_net_of_another_name").WIDTH == 8
