"""One file held against the checkpoint that it was made from, and its accuracy next to the network's."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from codeq import checkpoint
from export.onnx.verify import PROGRESS_STEPS, Verdict
from export.tflite.verify import TfliteVerdict
from runtime_tests.agreement.accuracy import compare_accuracy, load_test_data
from runtime_tests.agreement.contract import read_contract
from runtime_tests.names import NAMES

__all__ = ["PROGRESS_STEPS", "FileParity", "check_file"]


@dataclass(frozen=True)
class FileParity:
    """Holds the verdict on a file. `accuracy` is in [0, 1] by runtime, empty without labelled data."""

    checkpoint: Path
    file: Path
    notes: tuple[str, ...]
    verdict: Verdict | TfliteVerdict
    accuracy: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Give everything with plain types."""
        about = {"checkpoint": str(self.checkpoint), "file": str(self.file), "notes": list(self.notes)}
        return about | {"accuracy": self.accuracy or None} | self.verdict.to_dict()

    def __str__(self) -> str:
        if not self.accuracy:
            return str(self.verdict)
        values = ", ".join(f"{NAMES[key]} {value:.2%}" for key, value in self.accuracy.items())
        return f"{self.verdict}\naccuracy  {values} on the test set"


def check_file(
    checkpoint_path: Path,
    file: Path,
    factory: Callable[[], nn.Module] | None,
    data: str | None,
    count: int,
    *,
    on_progress: Callable[[int, str], None] = lambda done, detail: None,
) -> FileParity:
    """Hold a file against a checkpoint.

    Args:
        checkpoint_path: The checkpoint that the file was made from.
        file: An ONNX or a .tflite file.
        factory: Builds a network that the registry has not; None takes the registry.
        data: The data set whose test set gives inputs, all of which the accuracy is compared on; None takes the inputs
            held in the checkpoint.
        count: Inputs to compare.
        on_progress: Called with the share done, of PROGRESS_STEPS, and what was just finished.

    Raises:
        CodeqError: Checkpoint, file or data cannot be read, or do not fit each other.
    """
    contract = read_contract(file)
    loaded = checkpoint.load(checkpoint_path, factory)
    notes = []
    if contract.metadata.checkpoint_sha256 not in (None, loaded.sha256):
        notes.append(f"{file} says it was made from another checkpoint than {checkpoint_path}")
    dataset = None if data is None else load_test_data(loaded, data)
    if dataset is None:
        inputs, note = loaded.inputs_to_check(count)
        notes += [note] if note else []
    else:
        inputs = dataset.test.load(torch.arange(min(count, len(dataset.test))))
        if len(inputs) < count:
            notes.append(f"the test set of {data} holds {len(inputs)} inputs, not {count}")
    verdict, reference = contract.hold(loaded.model, inputs, on_progress)
    accuracy: dict[str, float] = {}
    if dataset is not None:
        on_progress(PROGRESS_STEPS, "accuracy on the test set")
        accuracy = compare_accuracy(loaded.model, *contract.runs(loaded.model, reference), dataset.test)
    return FileParity(checkpoint_path, file, tuple(notes), verdict, accuracy)
