"""A file appears under its name only after the check held; whatever fails before leaves all as it was."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from codeq.errors import OutputError
from export.backend import Written
from export.errors import ExportError
from export.input_slot import InputSlot
from export.metadata import FileMetadata
from export.options import ExportRequest
from export.parity.checks import OutputCheck
from export.parity.verdict import ParityError, Verdict
from export.publish import publish

pytestmark = pytest.mark.quick

HOLDS = Verdict("none", "1", 2, (), (OutputCheck("y", "eager", 1, 0.0, 1.0, 1.0, 0, True),))
FAILS = dataclasses.replace(HOLDS, outputs=(OutputCheck.failed("y", "eager", 1, "off by one"),))
METADATA = FileMetadata((), None, {}, {})


@dataclasses.dataclass
class Stored:
    path: Path
    metadata: FileMetadata = METADATA
    fixed_batch: int | None = None
    approximate: bool = False


class Runner:
    runtime, version, note = "none", "1", ""
    inputs = (InputSlot("x", (None, 2), np.dtype(np.float32)),)

    def open(self) -> None: ...


class Text:
    """A backend whose files say `new`; `broken` names the step that raises."""

    name, suffix = "text", ".txt"

    def __init__(self, verdict: Verdict = HOLDS, broken: str = "", companions: Sequence[str] = ()) -> None:
        self.verdict, self.broken, self.companions = verdict, broken, tuple(companions)

    def _step(self, name: str) -> None:
        if name == self.broken:
            raise ExportError(f"{name} failed")

    def require(self) -> None:
        self._step("require")

    def write(self, prepared: Any, request: Any, staged: Path) -> Written:
        staged.write_text("new")
        for name in self.companions:
            staged.with_name(name).write_text("beside")
        self._step("write")
        stale = () if self.companions else ("net.txt.data",)
        return Written({}, lambda size_bytes: size_bytes, companions=self.companions, stale=stale)  # type: ignore[arg-type,return-value]

    def read(self, path: Path) -> Stored:
        self._step("read")
        return Stored(path)

    def open_runner(self, path: Path, **options: Any) -> Runner:
        self._step("open_runner")
        return Runner()

    def record_mismatch(self, path: Path, failure: str) -> None:
        path.write_text(f"new, {failure}")

    def check(self, *arguments: Any) -> Verdict:
        self._step("check")
        return self.verdict

    def files(self, path: Path) -> list[Path]:
        return [path, *(path.with_name(name) for name in self.companions)]


def export(backend: Text, folder: Path, *, force: bool = False, accept_mismatch: bool = False) -> Any:
    request = ExportRequest(force=force, accept_mismatch=accept_mismatch)
    return publish(backend, nn.Linear(2, 2), torch.ones(2, 2), folder / "net.txt", request)  # type: ignore[arg-type]


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "export.publish"]


def content(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_a_file_that_holds_is_published(tmp_path: Path) -> None:
    report = export(Text(companions=["net.txt.data"]), tmp_path)
    assert content(tmp_path) == {"net.txt": "new", "net.txt.data": "beside"}
    assert (report.backend, report.path, report.verdict) == ("text", tmp_path / "net.txt", HOLDS)
    assert report.size_bytes == report.details == len("new" + "beside")
    assert report.float32_bytes == 4 * (2 * 2 + 2)
    assert report.activations is None


@pytest.mark.parametrize("step", ["require", "write", "read", "open_runner", "check"])
@pytest.mark.parametrize("before", [{}, {"net.txt": "old", "net.txt.data": "old"}], ids=["nothing", "a file"])
def test_nothing_changes_where_a_step_fails(step: str, before: dict[str, str], tmp_path: Path) -> None:
    for name, text in before.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ExportError, match=f"^{step} failed$"):
        export(Text(broken=step), tmp_path, force=True)
    assert content(tmp_path) == before


def test_a_file_that_does_not_hold_is_not_published(tmp_path: Path) -> None:
    (tmp_path / "net.txt").write_text("old")
    (tmp_path / "net.txt.data").write_text("old")
    with pytest.raises(ParityError, match="off by one") as raised:
        export(Text(FAILS), tmp_path, force=True)
    assert raised.value.verdict is FAILS
    assert content(tmp_path) == {"net.txt": "old", "net.txt.data": "old"}


def test_a_mismatch_that_is_accepted_is_published_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    report = export(Text(FAILS), tmp_path, accept_mismatch=True)
    failure = "y at eager, batch 1: off by one"
    assert content(tmp_path) == {"net.txt": f"new, {failure}"}
    assert (report.verdict, report.size_bytes) == (FAILS, len(f"new, {failure}"))
    assert report.notes == (f"published although parity does not hold: {failure}",)
    assert warnings_of(caplog) == [f"{report.path}: {report.notes[0]}"]


def test_a_file_that_holds_says_nothing_of_a_mismatch(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    report = export(Text(), tmp_path, accept_mismatch=True)
    assert content(tmp_path) == {"net.txt": "new"}
    assert (report.notes, warnings_of(caplog)) == ((), [])


def test_what_an_older_file_left_beside_it_goes_with_it(tmp_path: Path) -> None:
    (tmp_path / "net.txt").write_text("old")
    (tmp_path / "net.txt.data").write_text("old")
    export(Text(), tmp_path, force=True)
    assert content(tmp_path) == {"net.txt": "new"}


def test_a_file_of_another_s_stays_where_nothing_was_replaced(tmp_path: Path) -> None:
    (tmp_path / "net.txt.data").write_text("someone else's")
    export(Text(), tmp_path)
    assert content(tmp_path) == {"net.txt": "new", "net.txt.data": "someone else's"}


@pytest.mark.parametrize("existing", ["net.txt", "net.txt.data"])
def test_overwriting_needs_force(existing: str, tmp_path: Path) -> None:
    (tmp_path / existing).write_text("old")
    with pytest.raises(OutputError, match=existing):
        export(Text(companions=["net.txt.data"]), tmp_path)
    assert content(tmp_path) == {existing: "old"}
