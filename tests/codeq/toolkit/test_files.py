"""Outputs appear whole or not at all."""

from pathlib import Path

import pytest

from codeq.errors import OutputError
from codeq.toolkit.files import check_writable, replace_atomically, staging_folder


def test_what_may_not_be_written_is_named(tmp_path: Path) -> None:
    old = tmp_path / "old.pt"
    old.write_text("old")
    assert check_writable(old, force=True) == old
    assert check_writable(tmp_path / "new.pt", force=False) == tmp_path / "new.pt"
    for target, message in [
        (old, "exists; use --force to overwrite it"),
        (tmp_path, "is a folder, expected a file name"),
        (tmp_path / "nowhere" / "a.pt", "there is no folder"),
        (Path("/dev/null"), "is no ordinary file; name another one"),
    ]:
        with pytest.raises(OutputError, match=message):
            check_writable(target, force=False)
    assert [path.name for path in tmp_path.iterdir()] == ["old.pt"]


def write_half(path: Path) -> None:
    path.write_text("half")
    raise LookupError


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.pt"
    target.write_text("old")
    with pytest.raises(LookupError), replace_atomically(target) as temporary:
        write_half(temporary)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.pt", "old")]
    with replace_atomically(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.pt", "new")]


def test_companions_arrive_with_their_file(tmp_path: Path) -> None:
    with staging_folder(tmp_path / "a.onnx") as folder:
        (folder / "a.onnx").write_text("graph")
        (folder / "a.onnx.data").write_text("weights")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", "a.onnx.data"]


def test_a_folder_that_is_gone_is_one_line(tmp_path: Path) -> None:
    target = tmp_path / "nowhere" / "a.pt"
    with (
        pytest.raises(OutputError, match=r"^cannot write .*a\.pt: No such file or directory$"),
        replace_atomically(target),
    ):
        pass
