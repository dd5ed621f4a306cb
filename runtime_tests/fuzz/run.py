"""This module feeds mutants of small files to the commands that read such files, and counts what becomes of them."""

import math
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
Command = tuple[str, str, list[str], str | None, int]
"""Its name in reports, its module, its words, the file that it writes, and in how many mutants it reads one."""
CHECK_COUNT = "2"
"""Inputs that parity compares."""
BENCH_SECONDS = "0.01"
BENCH_RARER = 10
"""It starts a process that loads the libraries."""


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
    rarely: int,
    minutes: float = math.inf,
    keep: Path | None = None,
    on_progress: Callable[[float, str], None] = lambda share, detail: None,
) -> FuzzReport:
    """Make mutants and run commands on them.

    Args:
        kind: Of MUTATORS.
        count: How many mutants at most.
        seed: They are the same for the same seed; each has random numbers of its own.
        rarely: What takes longer, `parity` or an export, looks at one in so many, and `bench` at a tenth of these.
        minutes: After these no mutant is begun.
        keep: A folder for mutants that are findings; None keeps none.
        on_progress: Called with the share that is done, and what is found.

    Raises:
        CodeqError: The samples cannot be written.
    """
    mutate = import_module(MUTATORS[kind]).mutate
    start = time.monotonic()
    outcomes: dict[str, Counter[str]] = {}
    findings: list[Finding] = []
    with tempfile.TemporaryDirectory() as place, Worker() as worker:
        files, commands = _subject(kind, Path(place), rarely)
        samples, suffix = [file.read_bytes() for file in files], files[0].suffix
        done = 0
        while done < count and time.monotonic() - start < 60 * minutes:
            number, done = done, done + 1
            which = number % len(files)
            mutant, change = mutate(samples[which], random.Random(f"{seed}/{number}"))
            for name, module, words, target, every in commands:
                if number % every:
                    continue
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
            share = max(done / count, (time.monotonic() - start) / 60 / minutes)
            on_progress(min(share, 1.0), format_count(len(findings), "finding"))
    counts = {name: dict(counter) for name, counter in outcomes.items()}
    return FuzzReport(kind, seed, done, time.monotonic() - start, counts, tuple(findings))


def _subject(kind: str, folder: Path, rarely: int) -> tuple[list[Path], list[Command]]:
    """Write what mutants are made from, and give the commands that read them."""
    if kind == CHECKPOINT:
        files, name = write_checkpoints(folder), f"{FILE}.pt"
        return (
            files,
            [
                # What is taken for float weights trains nothing; what goes on trains its last epoch.
                ("init", "codeq.train", ["--init", name, "--epochs", "1", "--dry-run", "--quiet"], None, 1),
                ("resume", "codeq.train", ["--resume", name, "--quiet"], None, 1),
                ("export", EXPORT, [name, "-o", "out", "--quiet"], "out", rarely),
            ],
        )
    backend = get_backend(kind)
    backend.require()
    checkpoint, files = write_samples(backend, folder)
    file, dense = f"{FILE}{backend.suffix}", f"dense{backend.suffix}"
    words = [str(checkpoint), file, "--model", FACTORY, "--count", CHECK_COUNT, "--quiet"]
    return (
        files,
        [
            ("inspect", "export.inspect", [file], None, 1),
            ("materialize", "export.materialize", [file, "-o", dense], dense, 1),
            ("parity", "runtime_tests.parity", words, None, rarely),
            (
                "bench",
                "runtime_tests.bench.__main__",
                [file, "--seconds", BENCH_SECONDS, "--quiet"],
                None,
                BENCH_RARER * rarely,
            ),
        ],
    )
