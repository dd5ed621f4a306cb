"""This module collects what several runtimes compute for the same inputs, and says which kernel makes them differ."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from export.parity.outputs import (
    APPROXIMATE_TOLERANCE,
    NEAR_TIE,
    RELATIVE_TOLERANCE,
    largest_difference,
    largest_magnitude,
)
from runtime_tests.agreement.file_in_runtime import EXACT_RULE, FileInRuntime, Tensors
from runtime_tests.agreement.runtimes_report import LayerPair, Pair, Row, RuntimesReport
from runtime_tests.agreement.watch import Watch, differing_per_input

BATCH_SIZE = 20
KEPT_APART = "its codes are of a copy that shows them, where additions are apart from convolutions"
FLOAT_SUMS = "the output layer, float32 sums in another order: outputs are equal within 1e-5 of the largest"


@dataclass
class _Found:
    """What one file computed for some inputs."""

    alone: np.ndarray
    together: np.ndarray
    by_rule: np.ndarray | None = None
    codes: dict[str, np.ndarray] = field(default_factory=dict)
    off_rule: dict[str, np.ndarray] = field(default_factory=dict)
    ties: set[str] = field(default_factory=set)


class Comparison:
    """Collects what the files compute, some inputs at a time."""

    def __init__(self, files: Sequence[FileInRuntime]) -> None:
        self.files = files
        self.rows = [
            Row(
                file.stored.path.name,
                file.runtime.title,
                file.alone.version,
                "hybrid" if file.stored.approximate else "float32" if file.reference is None else "int8",
                "; ".join(filter(None, [file.alone.note, KEPT_APART if file.computed.fused else ""])),
            )
            for file in files
        ]
        quantized = [file for file in files if file.reference is not None]
        self.base = base = next((file for file in quantized if not file.runtime.unseen), None)
        self.pairs = {
            file: Pair(str(base), str(file))
            for file in quantized
            if base is not None
            and file is not base
            and base.stored.metadata.activations == file.stored.metadata.activations
        }
        self.inputs = 0
        self.correct: int | None = 0
        self.largest = 0.0

    @property
    def tolerance(self) -> float:
        """Return the bound for float32 sums in another order, over what was seen so far."""
        return RELATIVE_TOLERANCE * self.largest

    def add(self, expected: np.ndarray, inputs: Tensors, labels: np.ndarray | None) -> None:
        """Compare on some inputs.

        Args:
            expected: What PyTorch computes for them.
            inputs: The next ones of the data, in the order of the network's arguments.
            labels: Theirs; None where there are none.
        """
        self.largest = max(self.largest, largest_magnitude(expected))
        self.correct = None if labels is None else (self.correct or 0) + int((expected.argmax(1) == labels).sum())
        found = {file: self._run(file, row, inputs) for file, row in zip(self.files, self.rows, strict=True)}
        for file, row in zip(self.files, self.rows, strict=True):
            self._add_row(row, file, found[file], expected, labels)
        for file, pair in self.pairs.items():
            assert self.base is not None
            self._add_pair(pair, file, found[self.base], found[file], inputs)
        self.inputs += len(inputs[0])

    def report(self) -> RuntimesReport:
        """Make the report of all that was collected."""
        for row in self.rows:
            row.accuracy = None if self.correct is None else row.correct / self.inputs
            where = f"{row.file} in {row.runtime}"
            limit = APPROXIMATE_TOLERANCE * self.largest if row.activations == "hybrid" else self.tolerance
            if row.activations != "int8" and not row.max_abs_error <= limit:
                row.failure = f"{where}: is off PyTorch by {row.max_abs_error:.3g}, above {limit:.3g}"
            elif row.activations == "int8" and not row.batch_error <= NEAR_TIE * self.largest:
                row.failure = f"{where}: batches of 1 and {BATCH_SIZE} differ by {row.batch_error:.3g}"
        for pair in self.pairs.values():
            _judge(pair)
        accuracy = None if self.correct is None else self.correct / self.inputs
        return RuntimesReport(
            self.inputs, BATCH_SIZE, accuracy, self.tolerance, tuple(self.rows), tuple(self.pairs.values())
        )

    def _run(self, file: FileInRuntime, row: Row, inputs: Tensors) -> _Found:
        found = _Found(*file.outputs(inputs))
        if file.reference is not None:
            found.codes = file.codes(inputs, found.together)
            watch = Watch(found.codes, len(inputs[0]))
            found.by_rule = file.by_rule(inputs, watch)
            found.off_rule = watch.differing
            found.ties = watch.ties
            row.off_rule_step = max([row.off_rule_step, *watch.steps.values()])
            for name, step in watch.steps.items():
                if name not in watch.ties:
                    row.beyond_ties[name] = max(step, row.beyond_ties.get(name, 0))
        return found

    def _add_row(
        self, row: Row, file: FileInRuntime, found: _Found, expected: np.ndarray, labels: np.ndarray | None
    ) -> None:
        if labels is not None:
            row.correct += int((found.alone.argmax(1) == labels).sum())
        row.batch_error = max(row.batch_error, largest_difference(found.alone, found.together))
        both = (found.alone, found.together)
        row.max_abs_error = max(row.max_abs_error, *(largest_difference(expected, ours) for ours in both))
        unlike = np.any([_unlike(expected, ours) for ours in both], axis=0)
        row.unlike_pytorch += [self.inputs + int(index) for index in np.flatnonzero(unlike)]
        if found.by_rule is None:
            return
        row.rule_error = max(row.rule_error, *(largest_difference(found.by_rule, ours) for ours in both))
        unlike = np.any([_unlike(found.by_rule, ours) for ours in both], axis=0)
        row.unlike_rule += [self.inputs + int(index) for index in np.flatnonzero(unlike)]
        row.codes += sum(codes.size for codes in found.codes.values())
        for name, counts in found.off_rule.items():
            if counts.any():
                row.off_rule += int(counts.sum())
                row.off_rule_layers[name] = row.off_rule_layers.get(name, 0) + int(counts.sum())

    def _add_pair(self, pair: Pair, file: FileInRuntime, first: _Found, second: _Found, inputs: Tensors) -> None:
        assert self.base is not None
        assert file.reference is not None
        if file.runtime.unseen:
            # What rule it has for ties is not known: its own codes are held to that of onnxruntime instead.
            by_rule = second.off_rule
        else:
            watch = Watch(first.codes, len(inputs[0]))
            file.reference.outputs(*inputs, on_codes=watch)
            by_rule = watch.differing
        parted = {name: differing_per_input(first.codes[name], second.codes[name], len(inputs[0])) for name in by_rule}
        for name, counts in parted.items():
            kernels = (self.base.kernel(name), file.kernel(name))
            layer = pair.layers.setdefault(name, LayerPair(name, kernels))
            layer.codes += first.codes[name].size
            layer.differing += int(counts.sum())
            layer.by_rule += int(by_rule[name].sum())
        unlike = _unlike(first.alone, second.alone) | _unlike(first.together, second.together)
        parting = np.any([counts > 0 for counts in parted.values()], axis=0)
        for index in map(int, np.flatnonzero(parting | unlike)):
            reason, explained = self._explain(pair, file, first, second, index, parted, by_rule)
            if not explained:
                pair.unexplained[self.inputs + index] = reason
            elif unlike[index]:
                pair.explained[self.inputs + index] = reason

    def _explain(
        self,
        pair: Pair,
        file: FileInRuntime,
        first: _Found,
        second: _Found,
        index: int,
        parted: dict[str, np.ndarray],
        by_rule: dict[str, np.ndarray],
    ) -> tuple[str, bool]:
        """Why an input has other codes or another class, and whether that is a reason."""
        if file.runtime.unseen:
            assert second.by_rule is not None
            if second.by_rule[index].argmax() == second.together[index].argmax():
                name = next((name for name in parted if name in file.computed.fused), "")
                return f"{name}: {pair.layers[name].kernels[1]}, not rounded in between" if name else FLOAT_SUMS, True
            name = next((name for name, counts in second.off_rule.items() if counts[index]), "")
            if not name:
                return "no code differs from the rule, and the class does", False
            where = f"{name}: {pair.layers[name].kernels[1]}"
            return (f"{where}, a tie", True) if name in second.ties else (f"{where}, off the rule by more", False)
        name = next((name for name, counts in parted.items() if counts[index]), "")
        if not name:
            close = largest_difference(first.together[index], second.together[index]) <= self.tolerance
            return (FLOAT_SUMS, True) if close else ("no code differs, and outputs do", False)
        assert self.base is not None
        reason = f"{name}: {' and '.join(pair.layers[name].kernels)}"
        if by_rule[name][index]:
            return reason, True
        for own, found in ((self.base, first), (file, second)):
            if found.off_rule[name][index] and name in found.ties and not own.is_exact(name):
                return f"{reason}, a tie in floats", True
        return f"{reason} part there for equal operands", False


def _unlike(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Say which inputs are classified differently, `(N,)`; none where outputs are no `(N, classes)`."""
    if first.ndim != 2:
        return np.zeros(len(first), bool)
    return np.asarray(first.argmax(1) != second.argmax(1))


def _judge(pair: Pair) -> None:
    for index, reason in pair.unexplained.items():
        pair.failure = f"input {index} differs in {pair.first} and {pair.second}: {reason}"
        return
    for layer in pair.layers.values():
        if layer.by_rule and EXACT_RULE.issuperset(layer.kernels):
            kernels = " and ".join(layer.kernels)
            pair.failure = (
                f"{layer.name}: {layer.by_rule} of {layer.codes} codes differ for equal operands, by {kernels}, "
                "which have one rule"
            )
            return
