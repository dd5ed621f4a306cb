"""This module holds one file against the checkpoint that it was made from, and measures its accuracy next to the
network's.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from codeq import checkpoint
from codeq.errors import CodeqError
from codeq.graph.autocast import autocast_off
from codeq.graph.inputs import Inputs
from codeq.toolkit.report_version import FORMAT_VERSION
from codeq.toolkit.table import fold_line, format_count
from codeq.version import __version__
from export.backend import Backend, OnProgress, StoredFile, backend_of
from export.from_checkpoint import choose_quantization
from export.parity.verdict import Verdict
from export.program.prepare import rebuild_program
from export.program.run import in_batches, run_network
from export.publish import check_stored
from export.reference.machine import IntegerReference
from export.rewrite import Rewriting, rewrite
from export.runner import run_batches
from runtime_tests.agreement.accuracy import Run, compare_accuracy, load_test_data

ACCURACY_BATCH_SIZE = 100
SHOWN_DIFFERENCES = 5
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
    rewriting: Rewriting | None = None
    not_compared: str = ""
    strict: bool = False

    @property
    def ok(self) -> bool:
        """Say whether the contract holds, and the file is, as far as `strict` asks for it, what would be written."""
        return self.verdict.ok and not self._rewriting_failure

    @property
    def _rewriting_failure(self) -> str:
        if self.rewriting is None:
            return self.not_compared if self.strict else ""
        deciding = self.rewriting.differences if self.strict else self.rewriting.deciding
        return str(deciding[0]) if deciding else ""

    def to_dict(self) -> dict[str, Any]:
        """Give everything with plain types."""
        about: dict[str, Any] = {"format_version": FORMAT_VERSION, "backend": self.backend}
        about |= {"checkpoint": str(self.checkpoint), "file": str(self.file), "notes": list(self.notes)}
        rewriting = {"compared": self.rewriting is not None, "not_compared": self.not_compared, "strict": self.strict}
        rewriting |= {} if self.rewriting is None else asdict(self.rewriting)
        values = about | {"accuracy": self.accuracy or None} | self.verdict.to_dict() | {"rewriting": rewriting}
        values["ok"] = self.ok
        values["first_failure"] = values["first_failure"] or self._rewriting_failure
        return values

    def _rewriting_lines(self) -> list[str]:
        word = "FAILED" if self._rewriting_failure else "ok"
        if self.rewriting is None:
            return [fold_line(f"anew      not compared: {self.not_compared}", 10)]
        found = self.rewriting
        if not found.differences:
            lines = [f"anew      what codeq {__version__} writes for this checkpoint, byte for byte: {word}"]
        else:
            word = word if self._rewriting_failure else "listed"
            counted = format_count(len(found.differences), "difference")
            lines = [f"anew      {counted} from what codeq {__version__} writes for this checkpoint: {word}"]
            lines += [fold_line(f"  {difference}", 4) for difference in found.differences[:SHOWN_DIFFERENCES]]
            if found.other_versions:
                lines.append(
                    fold_line(f"  written by {', '.join(found.other_versions)}: export it again to compare", 4)
                )
        return lines + [fold_line(f"  {note}", 4) for note in found.notes]

    def __str__(self) -> str:
        text = "\n".join([str(self.verdict), *self._rewriting_lines()])
        if not self.accuracy:
            return text
        names = NAMES | {self.verdict.runtime.lower(): self.verdict.runtime}
        values = ", ".join(f"{names[key]} {value:.2%}" for key, value in self.accuracy.items())
        return f"{text}\n{fold_line(f'accuracy  {values} on the test set', 10)}"


def check_file(
    checkpoint_path: Path,
    file: Path,
    factory: Callable[[], nn.Module] | None,
    data: str | None,
    count: int,
    *,
    strict: bool = False,
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
        strict: Any difference from what would be written today is a failure, also one of packaging; without it, only
            those that no other version of a package explains.
        on_progress: Called with the share done, 0 to 1, and what was just finished.

    Raises:
        CodeqError: Checkpoint, file or data cannot be read, or do not fit each other.
    """
    backend = backend_of(file)
    backend.require()
    stored = backend.read(file)
    loaded = checkpoint.load(checkpoint_path, factory)
    notes = []
    if stored.metadata.checkpoint_sha256 not in (None, loaded.sha256):
        notes.append(f"{file} says it was made from another checkpoint than {checkpoint_path}")
    dataset = None if data is None else load_test_data(loaded, data)
    if dataset is None:
        inputs, note = loaded.inputs_to_check(count)
        notes += [note] if note else []
    else:
        inputs = dataset.test.load(torch.arange(min(count, len(dataset.test))))
        if len(inputs) < count:
            notes.append(f"the test set of {data} holds {len(inputs)} inputs, not {count}")
    with autocast_off():
        program = None
        if stored.metadata.activations is not None:
            program = rebuild_program(
                loaded.model,
                inputs,
                stored.metadata.activations,
                exclude=stored.metadata.activations_except,
                too_wide=stored.metadata.activations_too_wide,
                fixed_batch=stored.fixed_batch,
            )
        verdict = check_stored(backend, stored, loaded.model, inputs, program, on_progress)
        rewriting, not_compared = _rewrite(backend, stored, loaded, inputs, on_progress)
        accuracy: dict[str, float] = {}
        if dataset is not None:
            on_progress(1.0, "accuracy on the test set")
            reference = None if program is None else backend.reference(program)
            size = stored.fixed_batch or ACCURACY_BATCH_SIZE
            runs = _runs(backend, stored, loaded.model, reference, size)
            accuracy = compare_accuracy(loaded.model, runs, size, dataset.test)
    return FileParity(
        backend.name, checkpoint_path, file, tuple(notes), verdict, accuracy, rewriting, not_compared, strict
    )


def _rewrite(
    backend: Backend, stored: StoredFile, loaded: checkpoint.Checkpoint, inputs: Inputs, on_progress: OnProgress
) -> tuple[Rewriting | None, str]:
    """Compare a file with what is written for its checkpoint today; or say why that cannot be done."""
    on_progress(1.0, "the file written anew")
    metadata = stored.metadata
    quantization = None
    if metadata.activations is not None and metadata.activations_from.get("inputs") == "checkpoint":
        asked: dict[str, Any] = {"activations": "int8", "activations_except": metadata.activations_except}
        if loaded.activations is None:
            asked["ranges"] = metadata.activations_from.get("ranges")
        quantization = choose_quantization(loaded, asked, None)
    try:
        found = rewrite(
            backend,
            stored,
            loaded.model,
            inputs,
            quantization=quantization,
            preprocessing=loaded.preprocessing,
            checkpoint_sha256=loaded.sha256,
        )
    except CodeqError as error:
        return None, str(error)
    return found, ""


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
