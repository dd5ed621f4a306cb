"""One process at a time works on a file, and a killed one does not keep the next from it."""

import os
from pathlib import Path

import pytest

from codeq.errors import OutputError
from codeq.toolkit import locks
from codeq.toolkit.locks import written_by_one
from tests.processes import killed_at_last


def test_the_second_is_refused_and_a_stale_lock_is_taken_over(tmp_path: Path) -> None:
    target = tmp_path / "a.pt"
    program = (
        "import time; from pathlib import Path; from codeq.toolkit.locks import written_by_one\n"
        f"with written_by_one(Path({str(target)!r}), 'training'): print('mine', flush=True); time.sleep(60)\n"
    )
    with killed_at_last(program, "mine") as owner:
        message = rf"a\.pt: process {owner} is training into it; wait for it, stop it, or name another file$"
        with pytest.raises(OutputError, match=message), written_by_one(target, "training"):
            pass
        with written_by_one(tmp_path / "b.pt", "training"):
            pass
    lock = tmp_path / ".a.pt.lock"
    assert lock.exists()
    with written_by_one(target, "training"):
        assert lock.read_text() == f"{os.getpid()}\n"
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_can_be_locked_work_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with written_by_one(tmp_path / "nowhere" / "a.pt", "training"):
        pass
    monkeypatch.setattr(locks, "fcntl", None)
    with written_by_one(tmp_path / "a.pt", "training"), written_by_one(tmp_path / "a.pt", "training"):
        pass


def test_a_lock_that_its_owner_has_just_removed_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, lock = tmp_path / "a.pt", tmp_path / ".a.pt.lock"
    calls: list[int] = []

    def removed(descriptor: int) -> bool:
        calls.append(descriptor)
        if len(calls) == 1:
            lock.unlink()
        return True

    monkeypatch.setattr(locks, "try_lock", removed)
    with written_by_one(target, "training"):
        assert (len(calls), lock.exists()) == (2, True)
