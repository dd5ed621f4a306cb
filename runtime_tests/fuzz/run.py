"""This module feeds mutants of small files to the commands that read such files, and counts what becomes of them."""

import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from codeq.toolkit.table import fold_line, format_count, render_table
from codeq.toolkit.text import printable
from export.backend import BACKENDS, get_backend
from runtime_tests.fuzz.findings import find
from runtime_tests.fuzz.names import CHECKPOINT, MUTATORS
from runtime_tests.fuzz.samples import FACTORY, write_checkpoints, write_samples
from runtime_tests.fuzz.worker import Worker

STATUSES = {"0": "accepted", "1": "parity does not hold", "2": "refused in one line", "-": "found"}
"""What becomes of a file, by exit status."""
EXPORT = f"export.{next(iter(BACKENDS))}.__main__"
FILE = "net"
"""What a mutant is called, without its suffix."""
Command = tuple[str, str, list[str], str | None]
"""Its name in reports, its module, its words, and the file that it writes."""
CHECK_COUNT = "2"
"""Inputs that parity compares."""


@dataclass(frozen=True)
class Finding:
    """Describes a mutant that a command did not deal with: its number, what it was made from and how, and what the
    command did."""

    number: int
    sample: str
    change: str
    command: str
    what: str


@dataclass(frozen=True)
class FuzzReport:
    """Counts what became of mutants. `outcomes` has how often each command ended with each status, "-" for findings."""

    kind: str
    seed: int
    count: int
    seconds: float
    outcomes: Mapping[str, Mapping[str, int]]
    findings: tuple[Finding, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return everything, with plain types."""
        return asdict(self)

    def __str__(self) -> str:
        rows = [(name, *(str(counts.get(key, 0)) for key in STATUSES)) for name, counts in self.outcomes.items()]
        found = format_count(len(self.findings), "finding")
        lines = [render_table(("command", *STATUSES.values()), rows), ""]
        for finding in self.findings:
            text = f"{finding.number} of {finding.sample} ({finding.change}): {finding.command}: {finding.what}"
            lines.append(fold_line(printable(text, 600), 2))
        lines.append(f"{self.count} mutants of {self.kind} files, seed {self.seed}, {self.seconds:.0f} s: {found}")
        return "\n".join(lines)


def fuzz(
    kind: str,
    *,
    count: int,
    seed: int,
    parity_every: int,
    keep: Path | None = None,
    on_progress: Callable[[int, str], None] = lambda done, detail: None,
) -> FuzzReport:
    """Make mutants and run commands on them.

    Args:
        kind: Of MUTATORS.
        count: How many mutants.
        seed: They are the same for the same seed; each has random numbers of its own.
        parity_every: What takes longest, `parity` or an export, looks at one in so many.
        keep: A folder for mutants that are findings; None keeps none.
        on_progress: Called with how many are done, and what is found.

    Raises:
        CodeqError: The samples cannot be written.
    """
    mutate = import_module(MUTATORS[kind]).mutate
    start = time.monotonic()
    outcomes: dict[str, Counter[str]] = {}
    findings: list[Finding] = []
    with tempfile.TemporaryDirectory() as place, Worker() as worker:
        files, commands, rarely = _subject(kind, Path(place))
        samples, suffix = [file.read_bytes() for file in files], files[0].suffix
        for number in range(count):
            which = number % len(files)
            mutant, change = mutate(samples[which], random.Random(f"{seed}/{number}"))
            for name, module, words, target in commands + (rarely if number % parity_every == 0 else []):
                with tempfile.TemporaryDirectory() as folder:
                    path = Path(folder, f"{FILE}{suffix}")
                    path.write_bytes(mutant)
                    answer = worker.run(module, words, Path(folder))
                what = find(answer, target)
                outcomes.setdefault(name, Counter())["-" if what else str(answer.status)] += 1
                if what:
                    findings.append(Finding(number, files[which].name, change, name, what))
                    if keep is not None:
                        keep.mkdir(parents=True, exist_ok=True)
                        (keep / f"{seed}-{number}{suffix}").write_bytes(mutant)
            on_progress(number + 1, format_count(len(findings), "finding"))
    return FuzzReport(kind, seed, count, time.monotonic() - start, outcomes, tuple(findings))


def _subject(kind: str, folder: Path) -> tuple[list[Path], list[Command], list[Command]]:
    """Write what mutants are made from, and give the commands that read every mutant, and those that read a few."""
    if kind == CHECKPOINT:
        files, name = write_checkpoints(folder), f"{FILE}.pt"
        trained = f"{FILE}.jsonl"
        return (
            files,
            [
                # What is taken for float weights trains nothing; what goes on trains its last epoch.
                ("init", "codeq.train", ["--init", name, "--epochs", "1", "--dry-run", "--quiet"], None),
                ("resume", "codeq.train", ["--resume", name, "--quiet"], trained),
            ],
            [("export", EXPORT, [name, "-o", "out", "--quiet"], "out")],
        )
    backend = get_backend(kind)
    backend.require()
    checkpoint, files = write_samples(backend, folder)
    file, dense = f"{FILE}{backend.suffix}", f"dense{backend.suffix}"
    words = [str(checkpoint), file, "--model", FACTORY, "--count", CHECK_COUNT, "--quiet"]
    return (
        files,
        [
            ("inspect", "export.inspect", [file], None),
            ("materialize", "export.materialize", [file, "-o", dense], dense),
        ],
        [("parity", "runtime_tests.parity", words, None)],
    )
