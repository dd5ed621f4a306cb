"""This module kills commands, half of the times at a random moment and half just before a random change to a file, and
runs each again.
"""

import random
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import codeq
from codeq.toolkit.table import fold_line, format_count, render_table
from codeq.toolkit.text import printable
from runtime_tests.kills.cases import CHECKPOINT, Case, cases
from runtime_tests.kills.forks import Ended, Forks, Kill
from runtime_tests.kills.judge import Files, find_broken, find_unfinished, is_written, read_folder
from runtime_tests.kills.network import FACTORY, digits_network

COMPLETE = "the run is complete"
"""What `--resume` says of a training that was killed behind its last write."""


@dataclass(frozen=True)
class Harm:
    """Describes a kill that did harm: of which command, when, and what was wrong."""

    number: int
    command: str
    kill: str
    what: str


@dataclass(frozen=True)
class CommandKills:
    """Counts the kills of one command: those that came before it had ended, by what they left of its files."""

    command: str
    changes: int
    kills: int
    nothing_new: int
    partly_new: int
    all_new: int


@dataclass(frozen=True)
class KillReport:
    """Holds what became of commands that were killed."""

    seed: int
    seconds: float
    rows: tuple[CommandKills, ...]
    findings: tuple[Harm, ...]

    @property
    def kills(self) -> int:
        return sum(row.kills for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Return everything, with plain types."""
        return asdict(self) | {"kills": self.kills}

    def __str__(self) -> str:
        header = ("command", "changes", "kills", "nothing new", "partly new", "all new")
        rows = [tuple(str(value) for value in asdict(row).values()) for row in self.rows]
        lines = [render_table(header, rows), ""]
        for finding in self.findings:
            text = f"{finding.number}, {finding.command}, {finding.kill}: {finding.what}"
            lines.append(fold_line(printable(text, 600), 2))
        found = format_count(len(self.findings), "finding")
        lines.append(f"{format_count(self.kills, 'kill')}, seed {self.seed}, {self.seconds:.0f} s: {found}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Subject:
    """Holds a case with its prepared folder, and what whole runs of it give."""

    case: Case
    folder: Path
    before: Files
    written: tuple[str, ...]
    whole: tuple[Files, ...]
    ended: Ended


def kill(
    count: int,
    *,
    seed: int,
    only: Sequence[str] = (),
    keep: Path | None = None,
    on_progress: Callable[[int, str], None] = lambda done, detail: None,
) -> KillReport:
    """Kill commands in turn, until so many kills came before the command's end.

    Args:
        count: Kills.
        seed: Others for another number. Those at a moment depend on the machine as well.
        only: Names of cases; empty for all.
        keep: A folder for the folders of findings; None keeps none.
        on_progress: Called with how many are done, and what is found.

    Raises:
        RuntimeError: A command fails without being killed.
    """
    generator, start = random.Random(seed), time.monotonic()
    chosen = [case for name, case in cases().items() if not only or name in only]
    outcomes = {case.name: [0, 0, 0] for case in chosen}
    findings: list[Harm] = []
    done = 0
    with tempfile.TemporaryDirectory() as place, Forks() as forks:
        subjects = [_prepare(forks, case, Path(place, str(number))) for number, case in enumerate(chosen)]
        while done < count:
            subject = subjects[done % len(subjects)]
            with tempfile.TemporaryDirectory(dir=place) as folder:
                work = Path(folder, "work")
                shutil.copytree(subject.folder, work, symlinks=True)
                when = _when(subject, generator)
                ended = forks.run(subject.case.module, subject.case.words, work, when)
                if ended.status is not None:
                    continue  # it had ended before
                found = read_folder(work)
                new = [found.get(name) not in (None, subject.before.get(name)) for name in subject.written]
                outcomes[subject.case.name][2 if all(new) else int(any(new))] += 1
                what = find_broken(subject.before, found, subject.whole, subject.case.writes)
                what = what or _finish(forks, subject, work)
                if what:
                    findings.append(Harm(done, subject.case.name, str(when), what))
                    if keep is not None:
                        shutil.copytree(work, keep / f"{seed}-{done}", dirs_exist_ok=True)
            done += 1
            on_progress(done, format_count(len(findings), "finding"))
    rows = [
        CommandKills(s.case.name, s.ended.changes, sum(outcomes[s.case.name]), *outcomes[s.case.name]) for s in subjects
    ]
    return KillReport(seed, time.monotonic() - start, tuple(rows), tuple(findings))


def _prepare(forks: Forks, case: Case, folder: Path) -> Subject:
    """Make a case's inputs, and run it whole: twice, for some files hold times, and once for every epoch."""
    folder.mkdir()
    case.prepare(folder)
    before = read_folder(folder)
    whole: list[Files] = []
    for _ in range(2):
        work = folder.with_name(f"{folder.name}-whole")
        shutil.copytree(folder, work)
        ended = forks.run(case.module, case.words, work)
        if ended.status != 0:
            raise RuntimeError(f"{case.name} ends with status {ended.status}: {ended.stderr.strip()}")
        whole.append(read_folder(work))
        shutil.rmtree(work)
    if case.trains:
        whole += _epochs(forks, case, folder, ended)
    written = tuple(name for name in whole[0] if is_written(name, case.writes))
    return Subject(case, folder, before, written, tuple(whole), ended)


def _epochs(forks: Forks, case: Case, folder: Path, whole: Ended) -> list[Files]:
    """Give the folder as it is between two changes, where it can be read: checkpoints of every epoch are among them."""
    found: list[Files] = []
    for change in range(1, whole.changes + 1):
        work = folder.with_name(f"{folder.name}-{change}")
        shutil.copytree(folder, work)
        forks.run(case.module, case.words, work, Kill(change=change))
        content = read_folder(work)
        if CHECKPOINT in content and _loads(work / CHECKPOINT):
            found.append({CHECKPOINT: content[CHECKPOINT]})
        shutil.rmtree(work)
    return found


def _loads(path: Path) -> bool:
    try:
        codeq.load(path, digits_network)
    except codeq.CheckpointError:
        return False
    return True


def _when(subject: Subject, generator: random.Random) -> Kill:
    if generator.random() < 0.5:
        return Kill(change=generator.randint(1, max(subject.ended.changes, 1)))
    return Kill(seconds=generator.uniform(0.0, subject.ended.seconds))


def _finish(forks: Forks, subject: Subject, work: Path) -> str:
    """Run a killed command again, as its user would, and say what is wrong then."""
    case = subject.case
    words = [*case.words, *(word for word in case.again if word not in case.words)]
    if case.trains:
        content = read_folder(work).get(CHECKPOINT)
        if content is not None and content != subject.before.get(CHECKPOINT):
            words = ["--resume", CHECKPOINT, "--model", FACTORY, "--quiet", *case.again]
        elif "--resume" in case.words:
            words = case.words
    ended = forks.run(case.module, words, work)
    if ended.status != 0 and not (case.trains and COMPLETE in ended.stderr):
        return f"the next run ({' '.join(words)}) ends with status {ended.status}: {ended.stderr.strip()}"
    return find_unfinished(read_folder(work), subject.whole[0], tuple(subject.before))
