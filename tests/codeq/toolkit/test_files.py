"""Outputs appear whole or not at all."""

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from codeq.errors import OutputError
from codeq.toolkit.files import check_writable, replace_atomically, staging_folder, sweep
from tests.processes import killed_at_last


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


def test_the_mode_of_a_file_outlives_it(tmp_path: Path) -> None:
    target = tmp_path / "a.pt"
    target.write_text("old")
    target.chmod(0o640)
    with replace_atomically(target) as temporary:
        temporary.write_text("new")
    assert (target.read_text(), target.stat().st_mode & 0o777) == ("new", 0o640)


def test_a_link_to_nothing_is_not_replaced(tmp_path: Path) -> None:
    link = tmp_path / "a.pt"
    link.symlink_to("gone.pt")
    for force in (False, True):
        with pytest.raises(OutputError, match=r"is a link to gone\.pt, which is not there"):
            check_writable(link, force=force)
    assert link.is_symlink()


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_the_first_of_two_that_write_a_new_name_wins(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    target = tmp_path / "a.onnx"

    def write(folder: Path, text: str) -> None:
        (folder / "a.onnx").write_text(text)
        (folder / "a.onnx.data").write_text(text)

    late = ExitStack()
    write(late.enter_context(staging_folder(target, replace=False)), "late")
    with staging_folder(target, replace=False) as early:
        write(early, "early")
    with pytest.raises(OutputError, match=r"a\.onnx\.data exists by now; use --force to overwrite it"):
        late.close()
    assert sorted((path.name, path.read_text()) for path in tmp_path.iterdir()) == [
        ("a.onnx", "early"),
        ("a.onnx.data", "early"),
    ]
    (tmp_path / "a.onnx.data").unlink()
    with pytest.raises(OutputError, match=r"a\.onnx exists by now"), staging_folder(target, replace=False) as folder:
        write(folder, "late")
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]  # and no companion of another file


def test_the_next_run_sweeps_what_a_killed_one_left_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a[1].pt"
    program = (
        "import time; from pathlib import Path; from codeq.toolkit.files import replace_atomically\n"
        f"with replace_atomically(Path({str(target)!r})) as temporary:\n"
        "    temporary.write_text('half'); print('there', flush=True); time.sleep(60)\n"
    )
    (tmp_path / ".b.pt.1234abcd.tmp").mkdir()
    (tmp_path / ".a[1].pt.notes.tmp").write_text("a file of somebody's")
    others = [".a[1].pt.notes.tmp", ".b.pt.1234abcd.tmp", "a[1].pt"]
    with killed_at_last(program, "there"):
        with killed_at_last(program, "there"):
            pass
        with replace_atomically(target) as temporary:
            temporary.write_text("new")
        left = {path.name for path in tmp_path.iterdir()}
        assert (left >= set(others), len(left)) == (True, 4)
    sweep(target)
    assert sorted(path.name for path in tmp_path.iterdir()) == others


def test_a_folder_that_was_swept_before_it_was_locked_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, mkdir = tmp_path / "a.pt", Path.mkdir
    made: list[Path] = []

    def swept(path: Path, *_: object) -> None:
        mkdir(path)
        made.append(path)
        if len(made) == 1:
            path.rmdir()

    monkeypatch.setattr(Path, "mkdir", swept)
    with replace_atomically(target) as temporary:
        temporary.write_text("new")
    assert (len(made), [path.name for path in tmp_path.iterdir()]) == (2, ["a.pt"])
