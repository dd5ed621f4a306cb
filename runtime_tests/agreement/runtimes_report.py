"""This report says what a comparison across runtimes found: a row for each file in each runtime, and a table for each
two int8 files.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

from codeq.toolkit.table import fold_line, format_count, render_table

SHOWN = 10
"""Inputs that are listed by number; `--json` has all."""


@dataclass
class Row:
    """Describes one file in one runtime, over all inputs and both batch sizes.

    `accuracy` is in [0, 1], None without labels. `unlike_pytorch` and `unlike_rule` number the inputs that are
    classified otherwise than by the network and by the integer reference of the runtime's rules; `max_abs_error` is
    to PyTorch's outputs, `rule_error` to the reference's. `off_rule` counts codes that are not those of the rule for
    the same operands, `beyond_ties` has the largest step of layers where they are off by more than a tie.
    `batch_error` is the largest difference between the batch sizes.
    """

    file: str
    runtime: str
    version: str
    activations: str
    note: str = ""
    correct: int = 0
    accuracy: float | None = None
    unlike_pytorch: list[int] = field(default_factory=list)
    unlike_rule: list[int] = field(default_factory=list)
    max_abs_error: float = 0.0
    rule_error: float = 0.0
    batch_error: float = 0.0
    codes: int = 0
    off_rule: int = 0
    off_rule_step: int = 0
    off_rule_layers: dict[str, int] = field(default_factory=dict)
    beyond_ties: dict[str, int] = field(default_factory=dict)
    failure: str = ""


@dataclass
class LayerPair:
    """Describes one quantized activation in two runtimes: how many codes differ, and how many do for equal operands."""

    name: str
    kernels: tuple[str, str]
    codes: int = 0
    differing: int = 0
    by_rule: int = 0


@dataclass
class Pair:
    """Two files with int8 activations.

    `explained` gives the reason by the number of an input that is classified differently. `unexplained` says of inputs
    with other codes or another class what was found instead of a reason.
    """

    first: str
    second: str
    layers: dict[str, LayerPair] = field(default_factory=dict)
    explained: dict[int, str] = field(default_factory=dict)
    unexplained: dict[int, str] = field(default_factory=dict)
    failure: str = ""


@dataclass(frozen=True)
class RuntimesReport:
    """Holds the whole comparison."""

    inputs: int
    batch_size: int
    accuracy: float | None
    tolerance: float
    rows: tuple[Row, ...]
    pairs: tuple[Pair, ...]

    @property
    def first_failure(self) -> str:
        """Return one line, empty where the runtimes agree."""
        failures = [row.failure for row in self.rows] + [pair.failure for pair in self.pairs]
        return next(filter(None, failures), "")

    def to_dict(self) -> dict[str, Any]:
        """Give everything to machines, with plain types."""
        return asdict(self) | {"ok": not self.first_failure, "first_failure": self.first_failure}

    def __str__(self) -> str:
        lines = [self._table()]
        for note in dict.fromkeys(row.note for row in self.rows if row.note):
            files = ", ".join(row.file for row in self.rows if row.note == note)
            lines.append(fold_line(f"{files}: {note}", 0))
        for row in self.rows:
            for name, step in row.beyond_ties.items():
                text = f"{row.file} in {row.runtime}: {name} is off the rule by up to {step}, which is no tie"
                lines.append(fold_line(text, 0))
        unlike = "unlike: inputs classified otherwise than by PyTorch, and by the runtime's rules in integers"
        lines.append(fold_line(unlike, 2))
        for pair in self.pairs:
            lines += ["", *_pair_lines(pair)]
        if self.first_failure:
            lines.append(fold_line(f"first failure: {self.first_failure}", 0))
        versions = ", ".join(dict.fromkeys(f"{row.runtime} {row.version}" for row in self.rows))
        word = "FAILED" if self.first_failure else "ok"
        lines.append("")
        lines.append(fold_line(versions, 2))
        lines.append(f"runtimes  {self.inputs:,} inputs, batches of 1 and {self.batch_size}: {word}")
        return "\n".join(lines)

    def _table(self) -> str:
        header = ("file", "runtime", "accuracy", "unlike: PyTorch", "rule", "max_abs_error", "codes off the rule")
        rows = [("the checkpoint", "PyTorch", _percent(self.accuracy), "", "", "", "")]
        for row in self.rows:
            on_codes = row.activations == "int8"
            off = f"{row.off_rule:,} of {row.codes / 1e6:.1f} M"
            rows.append(
                (
                    row.file,
                    row.runtime,
                    _percent(row.accuracy),
                    f"{len(row.unlike_pytorch):,}",
                    f"{len(row.unlike_rule):,}" if on_codes else "",
                    f"{row.max_abs_error:.1e}",
                    off if on_codes else row.activations.removesuffix("32"),
                )
            )
        return render_table(header, rows)


def _pair_lines(pair: Pair) -> list[str]:
    total, differing = (sum(getattr(layer, what) for layer in pair.layers.values()) for what in ("codes", "differing"))
    lines = [fold_line(f"{pair.first}, {pair.second}: {differing:,} of {total:,} codes differ", 2)]
    here = [layer for layer in pair.layers.values() if layer.by_rule]
    passed_on = sum(bool(layer.differing and not layer.by_rule) for layer in pair.layers.values())
    if here:
        header = ("codes of", "kernel", "its kernel", "codes", "differ", "for equal operands")
        rows = [
            (layer.name, *layer.kernels, f"{layer.codes:,}", f"{layer.differing:,}", f"{layer.by_rule:,}")
            for layer in here
        ]
        lines.append(render_table(header, rows))
    if passed_on:
        lines.append(f"{format_count(passed_on, 'other layer')} only passed on what differed before")
    if not pair.explained and not pair.unexplained:
        lines.append("every input is classified alike")
    lines += _inputs_lines("classified differently", pair.explained)
    lines += _inputs_lines("differing without a reason", pair.unexplained)
    return lines


def _inputs_lines(title: str, reasons: dict[int, str]) -> list[str]:
    by_reason: dict[str, list[int]] = {}
    for index, reason in sorted(reasons.items()):
        by_reason.setdefault(reason, []).append(index)
    lines = [f"{title}, {format_count(len(reasons), 'input')}:"] if reasons else []
    for reason, indexes in by_reason.items():
        more = f", ... ({len(indexes)} in all)" if len(indexes) > SHOWN else ""
        text = f"{', '.join(map(str, indexes[:SHOWN]))}{more}: {reason}"
        lines.append(fold_line(f"  {text}", 4))
    return lines


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.2%}"
