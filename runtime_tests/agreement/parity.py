"""This module holds one file against the checkpoint that it was made from, and measures its accuracy next to the
network's.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from codeq import checkpoint
from codeq.data import Dataset
from codeq.graph.autocast import autocast_off
from codeq.graph.inputs import Inputs
from codeq.toolkit.report_version import FORMAT_VERSION
from codeq.toolkit.table import fold_line
from export.backend import Backend, OnProgress, StoredFile, backend_of
from export.parity.held import hold_inputs
from export.parity.verdict import Verdict
from export.program.run import in_batches, run_network
from export.publish import add_comparison, check_stored
from export.reference.machine import IntegerReference
from export.rewrite import compare_rewritten
from export.runner import run_batches
from export.stored_network import stored_network
from export.stored_program import stored_program
from runtime_tests.agreement.accuracy import Run, compare_accuracy, load_test_data
from runtime_tests.agreement.checkpoint_record import compare_with_checkpoint
from runtime_tests.devices.judge import judge
from runtime_tests.devices.kit import batch_of
from runtime_tests.devices.results import read_results

ACCURACY_BATCH_SIZE = 100
NAMES = {"pytorch": "PyTorch", "integer_reference": "the integer reference"}
"""Ways to compute a network that are no runtime, as texts call them."""


@dataclass(frozen=True)
class FileParity:
    """Holds the verdict on a file. `accuracy` is in [0, 1] by runtime, empty without labelled data."""

    backend: str
    checkpoint: Path
    file: Path
    notes: tuple[str, ...]
    verdict: Verdict
    accuracy: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Give everything with plain types."""
        about: dict[str, Any] = {"format_version": FORMAT_VERSION, "backend": self.backend}
        about |= {"checkpoint": str(self.checkpoint), "file": str(self.file), "notes": list(self.notes)}
        return about | {"accuracy": self.accuracy or None} | self.verdict.to_dict()

    def __str__(self) -> str:
        if not self.accuracy:
            return str(self.verdict)
        names = NAMES | {self.verdict.runtime.lower(): self.verdict.runtime}
        values = ", ".join(f"{names[key]} {value:.2%}" for key, value in self.accuracy.items())
        return f"{self.verdict}\n{fold_line(f'accuracy  {values} on the test set', 10)}"


class Checked(NamedTuple):
    """Holds the inputs of a check, the data set that they are of (None: the checkpoint), and notes for people."""

    inputs: Inputs
    dataset: Dataset | None
    notes: list[str]


def take_checked(loaded: checkpoint.Checkpoint, data: str | None, count: int) -> Checked:
    """Take up to `count` inputs to check a file with: of a data set's test set, or those held in the checkpoint.

    Raises:
        CodeqError: There are none, or they do not fit the checkpoint.
    """
    if data is None:
        inputs, note = loaded.inputs_to_check(count)
        return Checked(inputs, None, [note] if note else [])
    dataset = load_test_data(loaded, data)
    taken = dataset.test.load(torch.arange(min(count, len(dataset.test))))
    notes = [f"the test set of {data} holds {len(taken)} inputs, not {count}"] if len(taken) < count else []
    return Checked(taken, dataset, notes)


def check_file(
    checkpoint_path: Path,
    file: Path,
    factory: Callable[[], nn.Module] | None,
    data: str | None,
    count: int,
    *,
    strict: bool = False,
    device_results: Path | None = None,
    on_progress: OnProgress = lambda share, detail: None,
) -> FileParity:
    """Hold a file against a checkpoint.

    Args:
        checkpoint_path: The checkpoint that the file was made from.
        file: An ONNX or a .tflite file.
        factory: Builds a network that the registry has not; None takes the registry.
        data: The data set whose test set gives inputs, all of which the accuracy is compared on; None takes the inputs
            held in the checkpoint.
        count: Inputs to compare.
        strict: As for `check_parity`.
        device_results: What a device computed (runtime_tests/devices/results.py): outputs and codes are judged there,
            with the inputs that were sent, and all the rest here.
        on_progress: Called with the share done, 0 to 1, and what was just finished.

    Raises:
        CodeqError: Checkpoint, file or data cannot be read, or do not fit each other.
    """
    backend = backend_of(file)
    backend.require()
    stored = backend.read(file)
    loaded = checkpoint.load(checkpoint_path, factory)
    results = None if device_results is None else read_results(device_results)
    inputs, dataset, found = take_checked(loaded, data, count if results is None else results.count)
    notes = []
    if stored.metadata.checkpoint_sha256 not in (None, loaded.sha256):
        notes.append(f"{file} says it was made from another checkpoint than {checkpoint_path}")
    notes += found
    with autocast_off():
        loaded = replace(loaded, model=stored_network(stored, loaded.model, inputs))
        program = stored_program(stored, loaded.model, inputs)
        verdict = check_stored(backend, stored, loaded.model, inputs, program, on_progress)
        if results is not None:
            held = hold_inputs(loaded.model, inputs, fixed_batch=batch_of(stored))
            verdict = judge(backend, stored, loaded.model, held, program, results, verdict)
            notes.append(f"outputs and codes were computed on {results.platform}")
        comparison = compare_rewritten(backend, stored, loaded.model, inputs, strict=strict)
        differences, not_compared = compare_with_checkpoint(stored, loaded)
        comparison = replace(
            comparison,
            differences=(*differences, *comparison.differences),
            notes=(*comparison.notes, *not_compared),
        )
        verdict = add_comparison(verdict, stored, comparison)
        accuracy: dict[str, float] = {}
        if dataset is not None and results is None:
            on_progress(1.0, "accuracy on the test set")
            reference = None if program is None else backend.reference(program)
            size = stored.fixed_batch or ACCURACY_BATCH_SIZE
            runs = _runs(backend, stored, loaded.model, reference, size)
            accuracy = compare_accuracy(loaded.model, runs, size, dataset.test)
    return FileParity(backend.name, checkpoint_path, file, tuple(notes), verdict, accuracy)


def _runs(
    backend: Backend, stored: StoredFile, model: nn.Module, reference: IntegerReference | None, size: int
) -> dict[str, Run]:
    """Give the ways of computing the network whose accuracy is compared, by name."""
    runner = backend.open_runner(stored.path)
    runner.open()
    runs: dict[str, Run] = {
        "pytorch": lambda inputs: run_network(model, (inputs,), size),
        backend.runtime.lower(): lambda inputs: run_batches(runner, (inputs,), size),
    }
    if reference is not None:
        runs["integer_reference"] = lambda inputs: in_batches(reference.outputs, (inputs,), size)
    return runs
